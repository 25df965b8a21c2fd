"""The forms of export by name."""

from egrecho_inner.decoding.exports import ct2, ggml, onnx, openai
from egrecho_inner.decoding.exports.forms import ExportForm, FormName

FORMS: dict[FormName, ExportForm] = {
    "ctranslate2": ct2.FORM,
    "onnx": onnx.FORM,
    "openai": openai.FORM,
    "ggml": ggml.FORM,
}
