"""Names of languages: many spellings, one code; nothing that is not sure."""

import pytest
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from egrecho_inner.errors import ConfigError
from egrecho_inner.text.languages import (
    join_texts,
    known_language,
    language_code,
    legal_languages,
    nearest_languages,
    whisper_language,
)


def test_every_language_of_whisper_is_legal() -> None:
    assert legal_languages() == sorted(LANGUAGES)
    for name, code in TO_LANGUAGE_CODE.items():
        assert language_code(name.upper()) == language_code(f" {code} ") == code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("vie", "vi"), ("eng", "en"), ("cmn", "zh"), ("yue", "yue"), ("deu", "de"), ("ger", "de"), ("jav", "jw")),
        *(("VI", "vi"), ("vi-VN", "vi"), ("Haitian Creole", "ht"), ("Mandarin", "zh")),
        *(("Japanese", "ja"), ("ja", "ja"), ("ja-JP", "ja"), ("jpn", "ja"), ("ja_JP.UTF-8", "ja")),
        *(("mdw", None), ("zzz", None), ("", None), ("xx-vi", None)),
    ],
)
def test_names_are_mapped_only_where_sure(name: str, code: str | None) -> None:
    assert whisper_language(name) == code


@pytest.mark.parametrize("name", ["zh-HK", "zh_hk", "zh-yue", "zh-Hant-HK", "yue_hant_hk", "Cantonese", "zh-MO", "yue"])
def test_chinese_as_spoken_in_hong_kong_is_cantonese(name: str) -> None:
    assert whisper_language(name) == "yue"


@pytest.mark.parametrize("name", ["zh", "zh-CN", "zh_Hans_CN", "zh-TW", "cmn_hans_cn", "zh-cmn-Hans", "Chinese"])
def test_chinese_is_else_mandarin(name: str) -> None:
    assert whisper_language(name) == "zh"


@pytest.mark.parametrize("name", ["zh-min-nan", "zh-nan", "nan-tw", "zh-wuu"])
def test_chinese_languages_without_a_token_are_not_mandarin(name: str) -> None:
    assert whisper_language(name) is None


def test_a_misspelt_name_is_answered_with_names_and_a_code_with_none() -> None:
    assert nearest_languages("vietnamse").startswith("vi (vietnamese)")
    assert nearest_languages("mdw") == nearest_languages("mkk") == ""
    with pytest.raises(ConfigError, match=r"'vietnamse' is not Whisper's; nearest: vi \(vietnamese\)"):
        language_code("vietnamse")
    with pytest.raises(
        ConfigError, match=r"'zzz' is not Whisper's; .*token of a related one.*--language; legal are"
    ) as e:
        language_code("zzz")
    assert "acedonian" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("mdw", "mdw"), ("MDW", "mdw"), ("mdw-CG", "mdw"), ("mdw_Latn", "mdw"), ("tlh", "tlh"), ("nan", "nan")),
        *(("ki", "ki"), ("kik", "ki"), ("vie", "vi"), ("zh-HK", "yue")),  # two letters where ISO 639 has them
        *(("zzz", None), ("qqq", None), ("xx", None), ("", None), ("englsh", None), ("Mboshi", None)),
        *(("und", None), ("mul", None), ("zxx", None)),  # no languages
        *(("zh-nan", None), ("xx-vi", None), ("mdw-", None), ("mdw-a b", None), ("../mdw", None)),
    ],
)
def test_a_language_that_whisper_lacks_is_named_by_a_code_that_exists(name: str, code: str | None) -> None:
    assert known_language(name) == code
    if code is None:
        with pytest.raises(ConfigError, match="is not Whisper's"):
            language_code(name)
    else:
        assert language_code(name) == code


def test_texts_are_joined_with_a_space_where_words_have_spaces() -> None:
    assert join_texts(["a b", "", None, "c"], "en") == "a b c"
    assert join_texts(["你", "好"], "zh") == "你好"
