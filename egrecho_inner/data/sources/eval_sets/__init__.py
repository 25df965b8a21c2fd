"""Published test sets, one small reader each: `short` for utterances, `long` for whole talks, calls and interviews."""

from egrecho_inner.data.sources.eval_sets.listing import READERS, Entry


def all_readers() -> dict[str, Entry]:
    """Return the readers by name, the short sets first, in the order of published tables."""
    from egrecho_inner.data.sources.eval_sets import long, short

    modules = [short.__name__, long.__name__]
    return dict(sorted(READERS.items(), key=lambda item: modules.index(item[1].read.__module__)))
