"""SMS as services write them, and the code that a reader takes out of each: see sms_texts.tsv.

One text a line: language (ISO 639), what it is, the code (`-`: there is none), and the text,
with `\\n` for a line feed. The texts are made up, after the wordings that services use.
"""
# ruff: noqa: RUF001  the letters of other scripts are meant

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class SmsText(NamedTuple):
    language: str
    name: str
    code: str | None
    text: str

    @property
    def id(self) -> str:
        return f"{self.language}-{self.name}"


def _read(line: str) -> SmsText:
    language, name, code, text = line.split("\t")
    return SmsText(language, name, None if code == "-" else code, text.replace("\\n", "\n"))


_TABLE = Path(__file__).with_name("sms_texts.tsv").read_text(encoding="utf-8")
SMS_TEXTS = [_read(line) for line in _TABLE.splitlines()]

# What the service's own reading, the first four to eight digits, is known to get wrong.
OBSERVED = {
    "123-456": "123456",
    "123 456": "123456",
    "G-123456": "123456",
    "AB12CD": "AB12CD",
    "Your code is 123-456": "123456",
    "Your code is 123 456.": "123456",
    "G-123456 is your Google verification code.": "123456",
    "Your code is AB12CD": "AB12CD",
    "Ваш код4821никому не сообщайте": "4821",
    "您的验证码是482913请勿泄露": "482913",
    "Account 98765432: code 5521": "5521",
    "Order 2024: your PIN is 730114": "730114",
}

# A text of each language, with a place for any code.
TEMPLATES = {
    "en": "Your Acme verification code is {}. It is valid for 10 minutes.",
    "de": "Ihr Bestätigungscode lautet {}. Geben Sie ihn nicht weiter.",
    "fr": "Votre code de vérification est {}. Ne le partagez pas.",
    "es": "Tu código de verificación es {}. No lo compartas.",
    "pt": "Seu código de verificação: {}. Não compartilhe.",
    "it": "Il tuo codice di verifica è {}. Non condividerlo.",
    "nl": "{} is je verificatiecode voor Acme.",
    "pl": "Twój kod weryfikacyjny to {}. Nie podawaj go nikomu.",
    "ru": "Ваш код подтверждения: {}. Никому его не говорите.",
    "uk": "{} - код для входу. Нікому його не повідомляйте.",
    "tr": "Doğrulama kodunuz: {}. Kimseyle paylaşmayın.",
    "ar": "رمز التحقق الخاص بك هو {} ولا تشاركه مع أحد",
    "he": "קוד האימות שלך הוא {} ותקף ל-5 דקות",
    "fa": "کد تایید شما: {}",
    "hi": "आपका ओटीपी {} है। किसी के साथ साझा न करें।",
    "th": "รหัสยืนยันของคุณคือ {} ห้ามบอกผู้อื่น",
    "vi": "Mã xác thực của bạn là {}. Không chia sẻ mã này.",
    "id": "Kode verifikasi kamu: {}. Jangan berikan ke siapa pun.",
    "zh": "【示例】您的验证码是{}，5分钟内有效。",
    "zh-tw": "您的驗證碼為{}，請於30分鐘內輸入。",
    "ja": "認証番号は「{}」です。他人には教えないでください。",
    "ko": "[예시] 인증번호는 [{}] 입니다.",
    "el": "Ο κωδικός επιβεβαίωσης είναι {}. Μην τον μοιραστείτε.",
    "cs": "Váš ověřovací kód je {}. Nikomu ho nesdělujte.",
    "sv": "Din verifieringskod är {}. Dela den inte.",
    "ro": "Codul tău de verificare este {}.",
    "hu": "Az Ön belépési kódja: {}.",
}
