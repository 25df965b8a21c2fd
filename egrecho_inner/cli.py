"""The `egrecho` command: a lazy table from sub-command to program. Imports nothing heavy before a program runs."""

import difflib
import importlib
import sys

from egrecho_inner.runtime.terminal import closable_stdout

COMMANDS = {
    "validate-data": ("egrecho_inner.validate_data:validate_data", "check a Kaldi data directory and its audio"),
    "import-kaldi": ("egrecho_inner.import_kaldi:import_kaldi", "Kaldi data directory -> recordings, supervisions"),
    "import-datasets": ("egrecho_inner.import_datasets:import_datasets", "audio folder or Hub data set -> Kaldi data"),
    "import-folder": ("egrecho_inner.import_folder:import_folder", "UID.wav and UID.txt in a folder -> cuts, split"),
    "import-eval-set": ("egrecho_inner.import_eval_set:import_eval_set", "a published test set on disk -> cuts"),
    "import-reazonspeech": ("egrecho_inner.import_reazonspeech:import_reazonspeech", "ReazonSpeech's tars -> cuts"),
    "import-web": ("egrecho_inner.import_web:import_web", "recordings of the web and their captions -> documents"),
    "import-jsonl": ("egrecho_inner.import_jsonl:import_jsonl", "SLAM-LLM's JSONL -> cuts"),
    "export-jsonl": ("egrecho_inner.export_jsonl:export_jsonl", "cuts -> SLAM-LLM's JSONL"),
    "import-shar": ("egrecho_inner.import_shar:import_shar", "Lhotse Shar -> files and cuts"),
    "to-shar": ("egrecho_inner.to_shar:to_shar", "cuts -> Lhotse Shar"),
    "import-musan": ("egrecho_inner.import_musan:import_musan", "MUSAN folder -> manifests and noise cuts"),
    "make-cuts": ("egrecho_inner.make_cuts:make_cuts", "recordings, supervisions -> cuts"),
    "compute-features": ("egrecho_inner.compute_features:compute_features", "cuts -> cuts with stored log-mel"),
    "make-processor": (
        "egrecho_inner.make_processor:make_processor",
        "transcripts -> the tokenizer of a new model",
    ),
    "add-language": (
        "egrecho_inner.add_language:add_language",
        "a model + a language it lacks -> a model with a token for it",
    ),
    "full": ("egrecho_inner.full:train_full", "cuts + Whisper -> all of its weights, fine-tuned"),
    "lora": ("egrecho_inner.lora:train_lora", "cuts + Whisper -> an adapter: LoRA, DoRA, AdaLoRA"),
    "distil": ("egrecho_inner.distil:distil", "labelled cuts + teacher + student -> a trained student"),
    "slam": ("egrecho_inner.slam:train_slam", "cuts + encoder + language model -> a speech LLM"),
    "personal": ("egrecho_inner.personal:personal", "a folder of recordings + a base -> a personal model, measured"),
    "demo": ("egrecho_inner.demo:demo", "a model on a page of this machine: speak or drop a file, read the text"),
    "on-demand": ("egrecho_inner.on_demand:on_demand", "a personal model, trained on Modal or Slurm, from here"),
    "serve": ("egrecho_inner.server:serve", "a training server for personal models, with a page and a queue"),
    "convert-slam": ("egrecho_inner.convert_slam:convert_slam", "SLAM-LLM's model.pt -> our folder, and back"),
    "to-safetensors": ("egrecho_inner.to_safetensors:to_safetensors", "pickled weights (.bin) -> safetensors"),
    "merge-lora-whisper": ("egrecho_inner.merge_lora:merge_lora", "adapter + base -> a full model, proven equal"),
    "average": ("egrecho_inner.average:average", "checkpoints of a run, or several models -> one model"),
    "eval": ("egrecho_inner.evaluation:evaluate", "model + cuts -> hypotheses and error rates"),
    "transcribe": ("egrecho_inner.transcribe:transcribe", "recordings -> text, subtitles, times of words"),
    "watch-checkpoints": (
        "egrecho_inner.watch_checkpoints:watch_checkpoints",
        "a run -> its checkpoints' scores",
    ),
    "export": ("egrecho_inner.export:export", "a model -> CTranslate2, ONNX, openai-whisper, whisper.cpp, compared"),
    "push": ("egrecho_inner.push:push", "a model, its card and results -> a hub repository"),
    "forget": ("egrecho_inner.forget:forget", "base + tuned model -> error rates between them, the best weight"),
    "pseudo-label": ("egrecho_inner.pseudo_label:pseudo_label", "cuts + a teacher -> cuts with the teacher's text"),
    "segment": ("egrecho_inner.segment:segment", "documents -> windows of at most 30 s, cuts into the recordings"),
    "tag": ("egrecho_inner.tag:tag", "documents or windows -> the same with facts to filter by"),
    "filter": ("egrecho_inner.filter_cuts:filter_cuts", "labelled or tagged cuts -> those worth learning from"),
    "export-web": ("egrecho_inner.export_web:export_web", "documents or windows -> a stage file of OLMoASR"),
    "dedup": ("egrecho_inner.dedup:dedup", "documents or windows -> one of each text, near-duplicates dropped"),
    "decontaminate": ("egrecho_inner.decontaminate:decontaminate", "cuts -> those that share no n-gram with tests"),
    "pack": ("egrecho_inner.pack_cuts:pack_cuts", "neighbouring utterances -> windows near 30 s"),
    "init-student": ("egrecho_inner.init_student:init_student", "a teacher -> a student of some of its layers"),
    "cache-logits": ("egrecho_inner.cache_logits:cache_logits", "labelled cuts + teacher -> its likeliest tokens"),
    "speculate": ("egrecho_inner.speculate:speculate", "teacher + student -> speed of both together, same words"),
    "init": ("egrecho_inner.init:init", "a folder of stage scripts and configs, to work in without the checkout"),
    "doctor": (
        "egrecho_inner.doctor:doctor",
        "machine, data, model and configuration: what will not do, before it runs",
    ),
    "plan": ("egrecho_inner.plan:plan", "model size x method -> memory, fits or not, hours"),
    "side-by-side": ("egrecho_inner.side_by_side:side_by_side", "result folders -> models beside each other"),
    "report-data": ("egrecho_inner.report_data:report_data", "cuts -> a page of what is in them and looks wrong"),
    "report-scores": ("egrecho_inner.report_scores:report_scores", "a result folder -> a page of its errors"),
    "compare": ("egrecho_inner.compare:compare", "two result folders -> better, worse or within noise"),
}
LAUNCHED = (
    "several processes, one per GPU: `egrecho launch --standalone --nproc_per_node 2 COMMAND ...`, for full, lora,\n"
    "distil, eval, pseudo-label; its options are torchrun's"
)


def main() -> None:
    """Run `egrecho COMMAND ...`."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help", "help"):
        with closable_stdout():
            print(usage())
        return
    if sys.argv[1] == "--version":
        from egrecho_inner import __version__

        print(f"egrecho {__version__}")
        return
    command, *argv = sys.argv[1:]
    if command == "launch":
        from egrecho_inner.runtime.launch import launch

        sys.exit(launch(argv, COMMANDS))
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "`egrecho -h` lists them"
        print(f"error: unknown command '{command}'; {hint}", file=sys.stderr)
        sys.exit(2)
    try:
        # the imports below cost seconds (torch), so only the chosen program pays for them
        from egrecho_inner.config import run

        module, function = COMMANDS[command][0].split(":")
        program = getattr(importlib.import_module(module), function)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C, before anything was done", file=sys.stderr)
        sys.exit(130)
    run(program, argv, prog=f"egrecho {command}")


def usage() -> str:
    """Return the help text."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())
    head = "usage: egrecho COMMAND [-c FILE] [--option VALUE] ..."
    return f"{head}\n\n{rows}\n\n{LAUNCHED}\n`egrecho COMMAND -h` explains one, with an example."


if __name__ == "__main__":
    main()
