"""Services of the catalogue: well-known ones by name, and the words the others are made of."""

from __future__ import annotations

from typing import NamedTuple


class Service(NamedTuple):
    id: str
    name: str
    category: str


# category: slug=Name, slug=Name, ... The first twenty are the popular ones.
_KNOWN = """
messaging: telegram=Telegram, whatsapp=WhatsApp, discord=Discord, signal=Signal, viber=Viber
search: google=Google, microsoft=Microsoft, yahoo=Yahoo, apple=Apple, openai=OpenAI
transport: uber=Uber, lyft=Lyft, bolt=Bolt
social: facebook=Facebook, instagram=Instagram, tiktok=TikTok, twitter=Twitter, snapchat=Snapchat
shopping: amazon=Amazon, ebay=eBay, aliexpress=AliExpress, etsy=Etsy, shein=SHEIN, temu=Temu
messaging: wechat=WeChat, line=LINE, kakaotalk=KakaoTalk, skype=Skype, zalo=Zalo, imo=imo, qq=QQ
social: linkedin=LinkedIn, reddit=Reddit, pinterest=Pinterest, tumblr=Tumblr, vk=VK, quora=Quora
social: threads=Threads, mastodon=Mastodon, bluesky=Bluesky, twitch=Twitch, youtube=YouTube
dating: tinder=Tinder, bumble=Bumble, hinge=Hinge, badoo=Badoo, okcupid=OkCupid, grindr=Grindr
finance: paypal=PayPal, revolut=Revolut, wise=Wise, cashapp=Cash App, venmo=Venmo, n26=N26
finance: stripe=Stripe, skrill=Skrill, neteller=Neteller, payoneer=Payoneer, monzo=Monzo
crypto: coinbase=Coinbase, binance=Binance, kraken=Kraken, okx=OKX, bybit=Bybit, kucoin=KuCoin
crypto: metamask=MetaMask, gemini=Gemini, bitget=Bitget, crypto-com=Crypto.com, bitstamp=Bitstamp
games: steam=Steam, epic-games=Epic Games, roblox=Roblox, blizzard=Blizzard, riot-games=Riot Games
games: playstation=PlayStation, xbox=Xbox, nintendo=Nintendo, ea=Electronic Arts, ubisoft=Ubisoft
media: netflix=Netflix, spotify=Spotify, hulu=Hulu, disney-plus=Disney+, deezer=Deezer, tidal=Tidal
delivery: doordash=DoorDash, grubhub=Grubhub, deliveroo=Deliveroo, glovo=Glovo, wolt=Wolt
delivery: instacart=Instacart, foodpanda=foodpanda, just-eat=Just Eat, rappi=Rappi
travel: airbnb=Airbnb, booking=Booking.com, expedia=Expedia, blablacar=BlaBlaCar, grab=Grab
shopping: walmart=Walmart, target=Target, zalando=Zalando, vinted=Vinted, olx=OLX, shopee=Shopee
shopping: lazada=Lazada, mercado-libre=Mercado Libre, craigslist=Craigslist, offerup=OfferUp
work: upwork=Upwork, fiverr=Fiverr, freelancer=Freelancer, indeed=Indeed, github=GitHub
work: zoom=Zoom, slack=Slack, notion=Notion, dropbox=Dropbox, adobe=Adobe, canva=Canva
mail: proton=Proton, outlook=Outlook, gmx=GMX, mail-com=Mail.com, yandex=Yandex, naver=Naver
cloud: aws=Amazon Web Services, digitalocean=DigitalOcean, hetzner=Hetzner, ovh=OVHcloud
ai: anthropic=Anthropic, mistral=Mistral, deepseek=DeepSeek, perplexity=Perplexity
rental: any=Any service
"""

_FIRST = """
Amber Arctic Aspen Azure Birch Bright Bronze Cedar Clear Cobalt Copper Coral Crisp Dawn Deep
Delta Ebony Ember Fern First Fresh Gentle Golden Grand Green Happy Harbor Hazel Indigo Ivory
Jade Lemon Lime Linen Lunar Magic Maple Meadow Mellow Mint Misty Noble North Oak Ocean Olive
Onyx Opal Pearl Pine Plain Polar Prime Quartz Quick Quiet Rapid River Robin Rose Ruby Sandy
Scarlet Silver Simple Solar Spring Stellar Sunny Swift Teal Tidy Topaz True Urban Velvet Violet
Vivid Warm Wild Willow Winter
"""
FIRST_WORDS = tuple(_FIRST.split())

SECOND_WORDS = tuple(
    (word, category)
    for category, words in {
        "messaging": "Chat Talk Post Mail",
        "shopping": "Market Basket Shop Bazaar",
        "finance": "Pay Bank Wallet Ledger",
        "games": "Arena Quest Play Guild",
        "travel": "Stay Trip Route Fly",
        "transport": "Ride Cab Wheels",
        "delivery": "Kitchen Meals Parcel",
        "social": "Circle Feed Club Square",
        "work": "Desk Board Task Office",
        "media": "Tunes Cinema Stream",
    }.items()
    for word in words.split()
)


def _read(table: str) -> tuple[Service, ...]:
    services = []
    for line in table.strip().splitlines():
        category, entries = line.split(": ", 1)
        for entry in entries.split(", "):
            slug, name = entry.split("=", 1)
            services.append(Service(slug, name, category))
    return tuple(services)


KNOWN_SERVICES = _read(_KNOWN)
