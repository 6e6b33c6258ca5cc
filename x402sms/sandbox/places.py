"""Countries of the catalogue: ISO 3166-1 alpha-2 code, dialling code, short name."""

from __future__ import annotations

from typing import NamedTuple


class Country(NamedTuple):
    iso2: str
    dial: str
    name: str


# The first ten always have stock of the best-known services.
_TABLE = """
US 1 United States
GB 44 United Kingdom
CA 1 Canada
DE 49 Germany
FR 33 France
NL 31 Netherlands
ES 34 Spain
IT 39 Italy
PL 48 Poland
SE 46 Sweden
AL 355 Albania
DZ 213 Algeria
AO 244 Angola
AR 54 Argentina
AM 374 Armenia
AU 61 Australia
AT 43 Austria
AZ 994 Azerbaijan
BS 1242 Bahamas
BH 973 Bahrain
BD 880 Bangladesh
BB 1246 Barbados
BE 32 Belgium
BZ 501 Belize
BJ 229 Benin
BO 591 Bolivia
BA 387 Bosnia and Herzegovina
BW 267 Botswana
BR 55 Brazil
BN 673 Brunei Darussalam
BG 359 Bulgaria
BF 226 Burkina Faso
CV 238 Cabo Verde
KH 855 Cambodia
CM 237 Cameroon
CL 56 Chile
CN 86 China
CO 57 Colombia
CG 242 Congo
CR 506 Costa Rica
CI 225 Côte d'Ivoire
HR 385 Croatia
CY 357 Cyprus
CZ 420 Czechia
DK 45 Denmark
DO 1809 Dominican Republic
EC 593 Ecuador
EG 20 Egypt
SV 503 El Salvador
EE 372 Estonia
SZ 268 Eswatini
ET 251 Ethiopia
FJ 679 Fiji
FI 358 Finland
GA 241 Gabon
GM 220 Gambia
GE 995 Georgia
GH 233 Ghana
GR 30 Greece
GT 502 Guatemala
GN 224 Guinea
GY 592 Guyana
HT 509 Haiti
HN 504 Honduras
HK 852 Hong Kong
HU 36 Hungary
IS 354 Iceland
IN 91 India
ID 62 Indonesia
IQ 964 Iraq
IE 353 Ireland
IL 972 Israel
JM 1876 Jamaica
JP 81 Japan
JO 962 Jordan
KZ 7 Kazakhstan
KE 254 Kenya
KR 82 Korea, Republic of
KW 965 Kuwait
KG 996 Kyrgyzstan
LA 856 Lao People's Democratic Republic
LV 371 Latvia
LB 961 Lebanon
LR 231 Liberia
LT 370 Lithuania
LU 352 Luxembourg
MG 261 Madagascar
MW 265 Malawi
MY 60 Malaysia
MV 960 Maldives
ML 223 Mali
MT 356 Malta
MU 230 Mauritius
MX 52 Mexico
MD 373 Moldova, Republic of
MC 377 Monaco
MN 976 Mongolia
ME 382 Montenegro
MA 212 Morocco
MZ 258 Mozambique
NA 264 Namibia
NP 977 Nepal
NZ 64 New Zealand
NI 505 Nicaragua
NE 227 Niger
NG 234 Nigeria
MK 389 North Macedonia
NO 47 Norway
OM 968 Oman
PK 92 Pakistan
PA 507 Panama
PG 675 Papua New Guinea
PY 595 Paraguay
PE 51 Peru
PH 63 Philippines
PT 351 Portugal
QA 974 Qatar
RO 40 Romania
RW 250 Rwanda
SA 966 Saudi Arabia
SN 221 Senegal
RS 381 Serbia
SC 248 Seychelles
SL 232 Sierra Leone
SG 65 Singapore
SK 421 Slovakia
SI 386 Slovenia
ZA 27 South Africa
LK 94 Sri Lanka
CH 41 Switzerland
TJ 992 Tajikistan
TZ 255 Tanzania, United Republic of
TH 66 Thailand
TG 228 Togo
TT 1868 Trinidad and Tobago
TN 216 Tunisia
TR 90 Türkiye
UG 256 Uganda
UA 380 Ukraine
AE 971 United Arab Emirates
UY 598 Uruguay
UZ 998 Uzbekistan
VN 84 Viet Nam
ZM 260 Zambia
ZW 263 Zimbabwe
"""


def _read(table: str) -> tuple[Country, ...]:
    return tuple(Country(*line.split(" ", 2)) for line in table.strip().splitlines())


COUNTRIES = _read(_TABLE)
