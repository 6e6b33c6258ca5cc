"""Words that stand near codes, and near numbers that are none, in the languages of the world.

In each table `stems` count wherever they occur in a word (`Sicherheitscode`, `kodunuz`, and the
scripts without spaces), `words` only as whole words. Case and the accents of Latin, Greek and
Cyrillic letters do not matter. More of these words is how a language gets better.
"""
# ruff: noqa: RUF001  the letters of other scripts are meant

from __future__ import annotations

from typing import Final, NamedTuple


class Words(NamedTuple):
    stems: str
    words: str = ""


def listed(table: str) -> list[str]:
    """The entries of a table; spaces inside one are part of it."""
    return [entry.strip() for entry in table.replace("\n", ",").split(",") if entry.strip()]


# What a code is called.
CODE: Final = Words(
    stems="""
        code, kode, kod, koodi, kood, codigo, codice, codul, cod de, codi de, msimbo, passwor
        passwort, kennwort, wachtwoord, mot de passe, contrasena, senha, palavra-passe, parola
        haslo, heslo, jelszo, lozink, sifre, salasana, losenord, kata sandi, kata laluan, mat khau
        ma otp, ma xac, ma kich hoat, ma bao mat, ma dang nhap, ma cua ban, clave, tunnusluku
        engangs, nywila, namba ya siri
        код, парол, пін-, пин-, шифр
        κωδικ
        կոդ, ծածկագիր
        კოდ
        رمز, كود, كلمة المرور, كلمة السر, الرقم السري, کد, گذرواژه, کوڈ, پاس ورڈ
        קוד, סיסמ
        कोड, ओटीपी, पासवर्ड, पिन
        কোড, ওটিপি
        கோட், குறியீடு, ஓடிபி
        కోడ్, ఓటీపీ
        ಕೋಡ್
        കോഡ്
        કોડ
        ਕੋਡ
        කේතය
        ኮድ
        ကုဒ်
        លេខកូដ
        ລະຫັດ
        รหัส
        验证码, 校验码, 动态码, 动态密码, 密码, 认证码, 激活码, 确认码, 口令, 随机码, 短信码
        安全码, 检验码, 识别码, 驗證碼, 校驗碼, 動態密碼, 密碼, 認證碼, 啟動碼, 確認碼, 安全碼
        驗證代碼, 代碼, 認証番号, 確認番号, コード, パスワード, 暗証番号
        인증번호, 인증코드, 코드, 비밀번호, 확인번호, 인증 번호, 승인번호
    """,
    words="""
        otp, pin, grabpin, token, tan, mtan, smstan, pushtan, tac, cod, codi, totp, mpin, pinkode
        pin1
        пин, пін
        פין
    """,
)

# What a code is for. Weaker: such words also stand in texts without a code.
PURPOSE: Final = Words(
    stems="""
        verif, verification, authent, autent, autoris, autoriz, authoriz, activat, aktiv, confirm
        conferm, login, log in, sign in, sign-in, sign up, signup, log on, logon, registr, passkey
        one-time, one time, einmal, bestatig, anmeld, freigabe, validation, usage unique
        connexion, acceso, acesso, accesso, inicio de sesion, dogrula, onay, giris, potvrd, overen
        overov, weryfik, logowan, bekraft, inlogg, bekreft, vahvist, tunnist, megerosit, belep
        xac thuc, xac minh, dang nhap, autentific, uthibitish, pengesahan, masuk
        подтвержд, підтвердж, потвърд, потврд, авториз, регистр, активац, вход, вхід
        επιβεβαιωσ, επαληθευ
        تحقق, تفعيل, تاكيد, تسجيل, تایید, تائید, ورود, تصدیق, توثیق
        אימות, כניסה, אישור
        सत्यापन, पुष्टि, लॉगिन
        লগইন, যাচাই
        சரிபார்ப்பு
        ధృవీకరణ
        ยืนยัน
        ផ្ទៀងផ្ទាត់
        验证, 驗證, 登录, 登入, 登錄, 注册, 註冊, 认证, 認證, 認証, 確認, ログイン, 本人確認
        인증, 로그인, 본인확인
    """,
    words="2fa, mfa, valid code, sca",
)

# What asks to type the number that follows.
TYPE_IT: Final = Words(
    stems="""
        введите, введіть, укажите, наберите, используйте, въведете, унесите, унеси
        أدخل, ادخل, استخدم
        הזן, הקלד, הזינו, הקש
        وارد کنید, درج کریں
        दर्ज
        กรอก, ใส่
        输入, 輸入, 填写, 使用, 入力
        입력
    """,
    words="""
        enter, use, type, saisissez, saisir, entrez, utilisez, tapez, ingrese, ingresa, introduce
        introduzca, usa, usar, use o, utilize, utiliza, digite, insira, introduza, inserisci, usi
        digita, inserire, utilizza, gib, geben sie, verwende, verwenden sie, nutze, eingeben, voer
        gebruik, vul, wpisz, podaj, uzyj, zadejte, zadajte, girin, giriniz, kullan, kullanin, ange
        skriv, bruk, brug, anvand, kayta, syota, introduceti, introdu, folositi, irja be, adja meg
        nhap, su dung, masukkan, gunakan, ilagay, gamitin, tumia, weka
        εισαγετε, πληκτρολογηστε
        unesite
    """,
)

# What is called by a number of its own: not a code.
OTHER: Final = Words(
    stems="""
        delivery, lieferung, livraison, entrega, consegna
        доставк
        account, acct, reference, invoice, transact, booking, reservation, tracking, parcel
        shipment, customer, policy number, hotline, helpline, helpdesk, contact, balance, ending
        ends with, version, flight, coupon, phone number, phone no, kontonummer, konto, bestell
        auftrag, rechnung, sendung, paket, kundennummer, kunden, guthaben, saldo, kartennummer
        endet auf, endend auf, endziffer, rufen sie, telefon, compte, commande, colis, facture
        dossier, solde, terminant par, appelez, carte se, cuenta, pedido, factura, envio
        terminada en, termina en, acabada en, telefono, referencia, encomenda, fatura
        terminado em, terminada em, ligue, telefone, protocolo, cupom, ordine, spedizione, fattura
        chiama, termina con, terminante, riferimento, pratica, rekening, bestelling, pakket
        factuur, eindigend op, eindigt op, rachun, zamowien, paczk, faktur, przesylk, zadzwon
        konczac, infolini, ucet, objednav, zasilk, zustat, volejte, konciciho, koncici, hesap
        hesab, siparis, kargo, bakiye, biten, arayin, musteri hizmet, bestallning, ordernummer
        faktura, slutar, tilaus, lasku, paketti, soita, tilinumero, comanda, comenzi, apelati
        terminat, rendeles, csomag, egyenleg, ugyfelszolg, hivja, szamla, vegzod, tai khoan
        don hang, so du, lien he, tong dai, ma giao dich, ma don, pesanan, hubungi, nomor pesanan
        nomor telepon, resi, akaun, agizo
        счет, заказ, карт, баланс, номер заказа, отправлен, посылк, звоните, телефон, тел.
        договор, позвонит, горяч, квитанц, рахун, замовлен, картк, посилк, дзвоніть, сметка
        поръчк, рачун, наруџб
        λογαριασμ, παραγγελ, υπολοιπ, ληγει σε, δεμα, τηλ, καλεστε, αποστολη
        حساب, طلب, رصيد, بطاقة, المنتهية, اتصل, شحنة, فاتورة, مرجع, الطلبية, للاستفسار, سفارش
        موجودی, مرسوله, تماس, تلفن, کارت, فاکتور, آرڈر, اکاؤنٹ
        חשבון, הזמנה, יתרה, כרטיס, המסתיים, התקשר, חבילה, משלוח, טלפון, אסמכתא, הסתיים
        खाता, खाते, ऑर्डर, शेष, बैलेंस, कार्ड, हेल्पलाइन, कॉल, अंतिम, अर्डर
        একাউন্ট, অ্যাকাউন্ট, অর্ডার
        บัญชี, คำสั่งซื้อ, ยอด, ลงท้าย, โทร, พัสดุ, บัตร, หมายเลขอ้างอิง, เลขที่
        账号, 账户, 订单, 尾号, 末四位, 余额, 客服, 热线, 电话, 单号, 快递, 致电, 运单, 流水号
        取件, 卡号, 手机, 帳號, 帳戶, 訂單, 尾號, 末四碼, 餘額, 熱線, 電話, 單號, 快遞, 專線
        优惠码, 折扣码, 包裹, 卡號, 口座, 注文番号, ご注文, 残高, 末尾, 下4桁, お問い合わせ
        追跡番号, お客様番号, 会員番号, 受付番号, 伝票
        계좌, 주문, 잔액, 끝자리, 문의, 고객센터, 운송장, 송장, 전화, 상담, 카드
    """,
    words="""
        a/c, acc, user, usuario, utente, benutzer, utilisateur, order, ord, ref, inv, txn, trx
        trans, case, ticket, member, membership, client, call, phone, tel, telephone, dial
        support, stop, text, reply, amount, total, card, ends, limit, build, gate, room, unit, zip
        address, id, userid, iban, order no, konto, karte, kd, nr. konto, plz, bestellnr
        rufnummer, fax, cde, nif, cpf, cnpj, tarjeta, orden, cartao, carta, kaart, klant, nip
        karta, karty, kart, tckn, musteri, ring, kort, kartya, conta, conto, final, bel, linka
        sold, colet, goi, llama, llame, gd, kartu, pnr, awb, po, sku, imei, vin, ver, v, year
        since, stk
    """,
)

# What is called a code, and is none to log in with.
NO_CODE: Final = Words(
    stems="""
        postcode, post code, zip code, zipcode, postal code, promo code, promocode, discount code
        voucher code, coupon code, sort code, country code, area code, barcode, bank code
        dress code, code promo, code postal, code-barres, gutscheincode, gutschein-code
        rabattcode, strichcode, bankleitzahl, kortingscode, codigo promo, codigo postal
        codigo de barras, codice sconto, codice promo, codice fiscale, kod rabatowy, kod pocztowy
        kod kresk, slevovy kod, rabattkod
        промокод, штрихкод, штрих-код
        كود الخصم, کد تخفیف
        קוד קופון
        कूपन कोड
        โค้ดส่วนลด
        优惠码, 折扣码, 优惠券码, 優惠碼, 折扣碼, 条码, 條碼, クーポンコード, バーコード
        쿠폰코드, 쿠폰 코드
    """,
)

# What a time comes after.
UNTIL: Final = Words(
    stems="""
        expir, valid until, valid till, valid thru, gultig bis, lauft ab, valable jusqu, scade
        geldig tot, verloopt, wazn, plati do, gecerli, giltig, voimassa, valabil, ervenyes
        hieu luc, het han, berlaku
        действ, дійсн
        ισχυει
        صالح, معتبر
        תקף
        मान्य
        หมดอายุ
        有效期至, 有効期限
        유효
    """,
    words="until, till, bis, hasta, fino al, jusqu'au",
)

# What makes a code a voucher.
BARGAIN: Final = Words(
    stems="""
        % off, discount, rabatt, gutschein, remise, promo, descuento, desconto, sconto, korting
        rabat, zniżk, sleva, indirim, alennus, reducere, kedvezm, giam gia, diskon
        скидк, знижк, отстъпк
        εκπτωσ
        خصم, تخفیف
        הנחה
        छूट
        ส่วนลด
        优惠, 優惠, 折扣, 割引, クーポン
        할인, 쿠폰
    """,
    words="sale, offer, oferta, deal, voucher, coupon",
)

# What may stand between such a word and its number: "order number 7".
NUMBER: Final = Words(
    stems="番号, 번호, 号码, 號碼, หมายเลข",
    words="number, no, nr, nro, num, numero, nummer, n, numer, номер, رقم, شماره, מספר",
)

# Before or after an amount of money; the ISO 4217 codes only in upper case, `try` is a word.
CURRENCY_CODES: Final = """
    USD, EUR, GBP, INR, RUB, UAH, PLN, CZK, HUF, RON, SEK, NOK, DKK, CHF, TRY, TL, VND, IDR, MYR
    RM, THB, JPY, KRW, CNY, RMB, HKD, TWD, AUD, CAD, BRL, MXN, COP, CLP, ARS, AED, SAR, EGP, ILS
    NIS, IRR, NGN, KES, ZAR, PHP, PKR, BDT, BGN, RSD, USDT, USDC, BTC, ETH, SGD, NZD, GEL, KZT
"""
CURRENCY_WORDS: Final = """
    rs, rs., rp, rp., r$, nt$, lei, euro, euros, dollars, pesos, zl, kc, kr, kr., ft, forint
    р, р., руб, руб., рублей, грн, грн., лв, лв., дин, евро
    ευρω
    ريال, درهم, جنيه, دينار, تومان
    ש"ח, שח
    रुपये, रु, रु.
    บาท
    dong
    元, 円
    원
    美元
    ₫
"""

# After a number that counts something.
UNIT: Final = """
    seconds, sec, minutes, minute, mins, min, hours, days, mb, gb, kb, km, kg, points, pts, miles
    credits, minuten, stunden, minutos, horas, minuti, heures, minut, godzin, dakika, saat
    минут, минуты, мин, часов, дней, хвилин
    phut, menit, hari
    דקות
    دقيقة, دقائق, دقیقه
    मिनट
    นาที
    分钟, 分鐘, 秒, 小时, 小時, 時間, 年
    분, 초, 시간, 년
    积分, 積分, ポイント
"""
