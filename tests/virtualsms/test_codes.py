# ruff: noqa: RUF001  the letters of other scripts are meant

from __future__ import annotations

import contextlib
import re
import sys
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtualsms.sms_texts import OBSERVED, SMS_TEXTS, TEMPLATES, SmsText
from x402sms.virtualsms import code_shapes
from x402sms.virtualsms import codes as codes_module
from x402sms.virtualsms.codes import (
    GOOD_ENOUGH,
    LONGEST_PATTERN,
    LOOKED_AT,
    candidates,
    code_of,
    compile_pattern,
    doubt,
    find_code,
    newest,
    text_of,
)
from x402sms.virtualsms.models import Sms, SmsResult

TEXTS_OF_ANYTHING = st.text(st.characters(codec=None)) | st.text(
    st.sampled_from("0123456789 -\n.:,#@/+*%()AaGxX\0\ud800٤४code"), max_size=80
)


def wrong() -> list[str]:
    found = [(sms, find_code(sms.text)) for sms in SMS_TEXTS]
    return [f"{sms.id}: {code}, not {sms.code}" for sms, code in found if code != sms.code]


def test_98_percent_of_the_table_are_read_right() -> None:
    mistakes = wrong()
    print(*mistakes, sep="\n")  # noqa: T201
    assert len(mistakes) <= len(SMS_TEXTS) * 0.02


def test_the_table_has_the_size_it_claims() -> None:
    assert len({sms.id for sms in SMS_TEXTS}) == len(SMS_TEXTS) >= 350
    assert len({sms.language for sms in SMS_TEXTS}) >= 40
    assert len({sms.language for sms in SMS_TEXTS if sms.code}) >= 40
    assert sum(sms.code is None for sms in SMS_TEXTS) >= 50


WITHOUT = [sms for sms in SMS_TEXTS if sms.code is None]


@pytest.mark.parametrize("sms", WITHOUT, ids=[sms.id for sms in WITHOUT])
def test_a_text_without_a_code_has_none(sms: SmsText) -> None:
    assert find_code(sms.text) is None


@pytest.mark.parametrize(("text", "code"), OBSERVED.items(), ids=OBSERVED)
def test_what_the_service_itself_gets_wrong_is_right(text: str, code: str) -> None:
    assert find_code(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "Thank you for registering.",
        "Call +1 (415) 555-0134 to verify your account.",
        "Your code was sent to 0800 555 0134",
        "Your verification was successful. Reference: 482913",
        "Your code is valid for 10 minutes. Order 482913",
        "Verify at https://x.io/abc1234",
        "Verify at x.io/4829 now",
        "Confirm by mail to 482913@example.com",
        "Your code expires at 2359",
        "Your PIN for card ****4821 was changed",
        "Your PIN for card XX4821 was changed",
        "Your login code was used 24/7, 100% safe, on 2026-11-03 at 10:15 by v10.4.2301",
        "Your OTP for 1234.50 EUR, EUR 1234 or $4821 was entered",
        "<#> Your code is ready\nFA+9qCX9VSu",
        "Dein Gutscheincode: 482913",
        "Use promo code SAVE20 for 20% off",
        "Code 123-4567-89",
        "Your code is 123456789",
        "You have waited 1500 seconds for a code",
    ],
)
def test_a_decoy_is_never_taken(text: str) -> None:
    assert find_code(text) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Your code is 1234-5678", "12345678"),
        ("Your code: 4 8 2 9 1 5", "482915"),
        ("Your code is AB12-CD34", "AB12-CD34"),
        ("code-AB12CD", "AB12CD"),
        ("OTP482913", "482913"),
        ("Your code is K9", None),
        ("Your code is IPHONE15PRO", None),
        ("Your code is ４８２９１３", "482913"),
        ("Your code is \u200e482\u2011913\u200f", "482913"),
        ("Your code is \N{MATHEMATICAL BOLD DIGIT FOUR}829", "4829"),
        ("Your co\u0301digo es 4829", "4829"),
        ("Your code is 1999", "1999"),
        ("OTP 482913 03-11-2026 14:35", "482913"),
        ("You paid 45 EUR 482913 is your code", "482913"),
        ("Code 004917 5 minutes", "004917"),
        ("验证码4821,5分钟内有效", "4821"),
        ("验证码4821点击链接", "4821"),
        ("Sign in:\n482913", "482913"),
        ("@example.com #482913", "482913"),
        ("Pay on example.com.\n\n@example.com #AB12 %pay.example", "AB12"),
    ],
)
def test_a_code_comes_out_as_it_is_typed(text: str, code: str | None) -> None:
    assert find_code(text) == code


def year_like(code: str) -> bool:
    return len(code) == 4 and code.startswith(("19", "20"))


codes = st.text("0123456789", min_size=4, max_size=8).filter(lambda code: not year_like(code))
templates = st.sampled_from(sorted(TEMPLATES))


@given(templates, codes)
def test_any_code_is_found_in_any_language(language: str, code: str) -> None:
    assert find_code(TEMPLATES[language].format(code)) == code


@given(templates, st.text("0123456789", min_size=6, max_size=6), st.sampled_from("- \u2011\u00a0"))
def test_a_code_in_two_groups_is_found(language: str, code: str, between: str) -> None:
    text = TEMPLATES[language].format(f"{code[:3]}{between}{code[3:]}")
    assert find_code(text) == code


@given(templates, codes, st.sampled_from("٠۰०๐০０"))
def test_a_code_in_digits_of_another_script_is_found(language: str, code: str, zero: str) -> None:
    written = "".join(chr(ord(zero) + int(digit)) for digit in code)
    assert find_code(TEMPLATES[language].format(written)) == code


@given(templates, st.from_regex("[2-9][ACDEFHJQW][2-9ACDEFHJQW]{3,6}", fullmatch=True))
def test_a_code_with_letters_is_found(language: str, code: str) -> None:
    assert find_code(TEMPLATES[language].format(code)) == code


def squeezed(text: str) -> str:
    """Digits in ASCII, and nothing but letters and digits: what a code is part of."""
    narrow = unicodedata.normalize("NFKC", text)
    digits = (str(unicodedata.decimal(each, each)) for each in narrow)
    return "".join(each for each in digits if each.isalnum())


@given(TEXTS_OF_ANYTHING)
def test_whatever_the_text_nothing_is_raised_and_nothing_made_up(text: str) -> None:
    for candidate in candidates(text):
        assert squeezed(candidate.code) in squeezed(text)
        assert re.fullmatch("[A-Za-z0-9]{4,12}|[A-Z0-9]{3,5}-[A-Z0-9]{3,5}", candidate.code)
    doubt(text, text)


def test_candidates_come_best_first() -> None:
    first, second = candidates("Account 98765432: code 5521")
    assert (first.code, second.code) == ("5521", "98765432")
    assert first.score >= GOOD_ENOUGH > second.score
    assert (first.start, second.start) == (23, 8)


@pytest.mark.parametrize("filler", ["x", "1", " ", "1 ", "a.", "1-", "\0", "\ud800", "code 1234 "])
def test_only_the_beginning_of_a_text_is_looked_at(filler: str) -> None:
    """So that the work is bounded: nothing beyond it makes a difference."""
    text = filler * (100_000 // len(filler))
    assert candidates(text + "Your code is 482913") == candidates(text[:LOOKED_AT])


def test_no_expression_over_a_text_can_backtrack_without_bound() -> None:
    """Every repetition without an upper bound is possessive: what it took it never gives back."""
    noise = [*code_shapes._FOLDED_NOISE, *code_shapes._PLAIN_NOISE]
    everything = [*vars(code_shapes).values(), *vars(codes_module).values(), *noise]
    expressions = {each.pattern for each in everything if isinstance(each, re.Pattern)}
    assert len(expressions) > 30
    for expression in expressions:
        bare = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "c", expression, flags=re.DOTALL)
        greedy = re.sub(r"[*+?}]\+", "", bare)
        assert re.search(r"[*+]|,\}", greedy) is None, greedy[:200]


def test_every_character_has_one_plain_and_one_folded_form() -> None:
    for number in range(sys.maxunicode + 1):
        plain = code_shapes._plain_character.__wrapped__(chr(number))
        assert len(plain) <= 1
        assert len(code_shapes._folded_character.__wrapped__(plain or " ")) == 1


# --- A pattern of the caller's own.


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        (r"\d+", "98765432"),
        (r"code (\d+)", "5521"),
        (r"(Account) .* (?P<code>\d+)", "5521"),
        (r"PIN (\d+)|code (\d+)", "5521"),
        (r"code(?P<code>\s\d\d)", "55"),
        (re.compile("CODE (..)", re.IGNORECASE), "55"),
        (r"PIN", None),
        (r"code(x)?", None),
        (r"code(?P<code>x)?", None),
        (r"\s", None),
        (r"", None),
    ],
)
def test_a_pattern_decides_alone(pattern: str | re.Pattern[str], code: str | None) -> None:
    assert find_code("Account 98765432: code 5521", pattern=pattern) == code


def test_a_pattern_sees_the_text_as_it_is() -> None:
    assert find_code("code ४८२९१३-x ", pattern=r"code (.*)") == "४८२९१३-x"


def test_a_pattern_too_sees_only_the_beginning() -> None:
    assert find_code(" " * LOOKED_AT + "1234", pattern=r"\d+") is None


@pytest.mark.parametrize("pattern", ["(", "[a", "(?P<code>", "*", r"\1", "a{99999999999}"])
def test_an_invalid_pattern_is_refused(pattern: str) -> None:
    for use in (compile_pattern, lambda bad: find_code("", pattern=bad)):
        with pytest.raises(ValueError, match="is no regular expression"):
            use(pattern)


def test_an_overlong_pattern_is_refused() -> None:
    assert compile_pattern("a" * LONGEST_PATTERN)
    with pytest.raises(ValueError, match="at most 200 characters, not 201"):
        compile_pattern("a" * (LONGEST_PATTERN + 1))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(st.text() | st.text(st.sampled_from("()[]{}*+?\\|^$P<>=!:,19ad-"), max_size=30))
def test_any_text_is_a_pattern_or_a_valueerror(pattern: str) -> None:
    with contextlib.suppress(ValueError):
        assert compile_pattern(pattern).pattern == pattern


# --- Which message, and whose word.


def sms(content: str, minute: int | None = None) -> Sms:
    at = None if minute is None else datetime(2026, 11, 3, 10, minute, tzinfo=UTC)
    return Sms(content=content, received_at=at)


@pytest.mark.parametrize(
    ("messages", "content"),
    [
        ([], None),
        ([sms("a"), sms("b")], "b"),
        ([sms("a", 1), sms("b", 2)], "b"),
        ([sms("a", 2), sms("b", 1)], "a"),
        ([sms("a", 1), sms("b", 1)], "b"),
        ([sms("a", 1), sms("b")], "b"),
        ([sms("a"), sms("b", 1)], "b"),
        ([sms("a", 2), sms("b"), sms("c", 1)], "b"),
        ([sms("a", 1), sms("b"), sms("c", 2)], "c"),
        ([sms("a", 2), sms("b", 1), sms("c")], "a"),
    ],
    ids=[
        "none",
        "no times",
        "oldest first",
        "newest first",
        "at once",
        "no time after a time",
        "no time before a time",
        "no time after a newer one",
        "no time before a newer one",
        "no time after an older one",
    ],
)
def test_the_newest_message_is_the_one_received_last(
    messages: list[Sms], content: str | None
) -> None:
    found = newest(messages)
    assert (found and found.content) == content


def result(
    *, code: str | None = None, text: str | None = None, messages: tuple[Sms, ...] = ()
) -> SmsResult:
    return SmsResult(status="received", code=code, full_text=text, messages=messages)


OLD, NEW = sms("Your code is 111222", 1), sms("Your code is 333444", 2)


@pytest.mark.parametrize(
    ("answer", "text", "code"),
    [
        (result(), None, None),
        (result(code="5521"), None, "5521"),
        (result(code=" 5521\n", text="code 7788"), "code 7788", "5521"),
        (result(code="  ", text="code 7788"), "code 7788", "7788"),
        (result(text="code 7788", messages=(OLD, NEW)), "code 7788", "7788"),
        (result(messages=(NEW, OLD)), "Your code is 333444", "333444"),
        (result(text="", messages=(OLD,)), "Your code is 111222", "111222"),
        (result(text="See you at 5!"), "See you at 5!", None),
    ],
    ids=[
        "nothing",
        "a code alone",
        "a code and a text",
        "a blank code",
        "a text and messages",
        "messages",
        "an empty text",
        "no code",
    ],
)
def test_the_services_code_comes_first_then_the_newest_text(
    answer: SmsResult, text: str | None, code: str | None
) -> None:
    assert text_of(answer) == text
    assert code_of(answer) == code


def test_a_pattern_overrides_the_services_code() -> None:
    answer = result(code="98765432", text="Account 98765432: code 5521")
    assert code_of(answer, pattern=r"code (\d+)") == "5521"
    assert code_of(answer, pattern=re.compile("PIN")) is None
    assert code_of(result(code="98765432"), pattern=r"\d+") is None


# --- When the service and the text disagree.


@pytest.mark.parametrize(
    ("code", "text", "reads"),
    [
        ("98765432", "Account 98765432: code 5521", "5521"),
        ("2024", "Order 2024: your PIN is 730114", "730114"),
        ("123", "Your code is 123-456", "123456"),
        ("630812", "Your Acme code is 630811. @acme.example #630811", "630811"),
    ],
)
def test_a_code_that_the_text_contradicts_is_doubted(code: str, text: str, reads: str) -> None:
    assert doubt(code, text) == f"the service read the code as {code}; its text reads as {reads}"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("5521", None),
        ("5521", ""),
        ("5521", "See you at 5!"),
        ("5521", "Account 98765432: code 5521"),
        ("123 456", "Your code is 123-456"),
        ("G-123456", "G-123456 is your Google verification code."),
        ("123456", "G-123456 is your Google verification code."),
        ("ab12-cd34", "Your code is AB12-CD34"),
        ("٤٨٢٩", "Your code is 4829"),
        ("1111", "Maybe 482913 was in your login"),
        ("1111", "Code 4829 code 5830"),
    ],
)
def test_a_code_is_not_doubted_without_a_clear_reason(code: str, text: str | None) -> None:
    assert doubt(code, text) is None


def test_a_doubt_shows_a_strangers_code_safely() -> None:
    said = doubt("\x1b[2J" + "9" * 500, "Your code is 4829")
    assert said is not None
    assert said.isprintable()
    assert len(said) < 200
