"""The corpus behind `sh run.sh`: requests to a voice assistant, spoken by a small grammar (stdlib only).

    python -m data_process.sample_data --out data/sample_joint      # writes data/sample_joint/all.jsonl

A record is `{"tokens": [...], "tags": [BIO ...], "intent": str}`; half are English (lower-case words), half
Chinese (single characters; Latin words and digits stay whole). One name serves many slots (jordan: person,
city, song, brand; 长沙: city, to_city, movie), one verb many intents (play, book, find, 打, 放, 订): a
dictionary fails, a model must read the context. Titles, names, times and prices are built from parts, so
many values of a test set are new.

How to read the tables:
    (a|b|)      one of the alternatives; an empty one says nothing, a repeated one is more frequent
    <name>      an entry of the word table of the same language; <en:name> of the English one
    {slot}      the entry called like the slot, tagged B-slot I-slot; {slot=name} another; tags do not nest
    2x ... ;    templates end with the line or ";"; this one is twice as frequent as one without "2x"
    ! ...       a request that may be framed politely: short for "<pre> ... <end>"

Copy: alone; needs only Python.
"""
from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

INTENT_WEIGHTS = {
    "play_music": 13, "get_weather": 11, "make_call": 9, "navigate": 9, "send_message": 9, "set_alarm": 8,
    "smart_home": 8, "buy_goods": 8, "play_movie": 7, "book_restaurant": 6, "book_train": 6, "book_flight": 5,
    "chitchat": 5, "get_news": 4, "translate": 4,
}

EN_WORDS = {
    "pre": "||||||please|could you|can you|can you please|okay", "end": "|||||thanks|thank you|if you can",
    "want": "i want to|i'd like to|i need to|let me", "ask_for": "<want>|<pre>", "d": "0|1|2|3|4|5|6|7|8|9",
    "num": "two|three|four|five|six|seven|eight|nine|ten|2|3|4|5|6|7|8|9", "party_size": "<num>",
    "quantity": "<num>", "tens": "(2|3|4|5|6|7|8|9)<d>|twenty|thirty|forty|fifty",
    # a bare hour only follows "at": "for 7" is always a number of people
    "hour": "<num>|<num>|1|10|11|12|eleven|twelve", "at": "at {time}|at {time}|at {time=hour}",
    "time": "<hour> (am|am|pm)|<hour> o'clock|half past <hour>|noon|(6|7|8|9|10):(0|1|2|3|4|5)(0|5)",
    "weekday": "monday|tuesday|wednesday|thursday|friday|saturday|sunday", "past": "yesterday|last <weekday>",
    "month": "january|february|march|april|may|june|july|august|september|october|november|december",
    "date": "today|today|tomorrow|tomorrow|tonight|(next|this) (<weekday>|weekend)|in <num> days",
    "fixed": "<weekday>|<weekday> (morning|evening)|<month> (1|2)<d>|<month> (first|second|third|tenth)",
    "day": "||{date}|{date}|on {date=fixed}", "repeat": "every (day|<weekday>|morning|weekend)|on weekdays",
    # one pool of names for people, towns, titles, topics and a brand; april, stone and brown are words, too
    "both": "jordan|washington|austin|sydney|charlotte|jackson|madison|lincoln|victoria|florence|paris",
    "first": "<both>|<given>", "given": "april|june|may|august|emma|oliver|lucas|maria|kevin|nora|peter|rose",
    "last": "stone|rivers|baker|hill|brooks|west|young|king|carter|wood|parker|bell|gray|brown|london",
    "name": "<first>|<first> <last>", "person": "<name>|<name>|mom|dad|my boss|(doctor|uncle) <last>",
    "city": "<both>|<town>", "town": "london|boston|chicago|berlin|tokyo|beijing|shanghai|new york|hong kong",
    "from_city": "<city>", "to_city": "<city>", "actor": "<name>|<first> <last>", "song": "<title>",
    "trip": "(from {from_city}|) to {to_city}|to {to_city} from {from_city}", "movie": "<title>",
    "adj": "golden|silent|broken|blue|red|lonely|electric|crazy|sweet|hidden|wild|gentle|empty|lost|silver",
    "thing": "river|moon|heart|summer|train|road|apple|garden|fire|dream|letter|star|window|ocean|kitchen"
             "|lamp|mirror|phone|island", "fall": "rain|snow", "sky": "sunny|cloudy|windy|hot|cold",
    "title": "(the|my|) <adj> <thing>|<adj> <thing>|<first>|<city>|goodbye <city>|waiting for <first>|<thing>"
             "|hello|tomorrow|<thing>s and <thing>s|<num> <adj> <thing>s", "beat": "jazz|rock|folk|country",
    "artist": "<name>|<name>|the <adj> <thing>s", "plot": "comedy|horror|romantic|western|detective",
    "restaurant": "the <adj> <thing>|<first>'s (kitchen|diner|place)|<city> (grill|garden)|<last> and <last>",
    "cuisine": "italian|chinese|thai|french", "phone_number": "555<d><d><d><d>|1<d><d>555<d><d><d><d>",
    "spot": "gas station|train station|museum|library|hospital|cinema|apple store|book store|airport",
    "place": "the (nearest|) <spot>|<city> (airport|museum)|(1|2)<d><d> <last> street|<first>'s house",
    "claim": "i will be (late|home) (<date>|soon|)|the (meeting|party) is (over|<date>)|dinner is ready"
             "|<first> is sick|i am at the <spot>|i missed the (bus|flight) to <city>|i found my <product>",
    "ask": "where is the <spot>|what time is it|how is the weather in <city>|do you like <city>",
    "message": "<claim>|<claim>|<ask>|hello|good (morning|night) <first>|see you <date>|call me back"
               "|turn off the <device>|play my favorite song|don't forget the <product>",
    "term": "<thing>|<adj> <thing>|apple|hello|goodbye|<product>", "phrase": "<message>|<term>|<term>",
    "language": "english|french|german|chinese|japanese", "airline": "united|delta|air china|<adj> airways",
    "seat_class": "first class|business class|economy", "food": "apples|oranges|coffee|rice|orange juice",
    "tech": "apple|apple|amazon|sony|samsung", "gadget": "phone|laptop|speaker|lamp|alarm clock|watch",
    "sport": "jordan|jordan|nike|puma", "wear": "jacket|backpack|hat|shirt|watch",
    "goods": "{brand=tech} {product=gadget}|{brand=sport} {product=wear}", "pack": "<num> boxes|a (box|bag)",
    "product": "<gadget>|<wear>|umbrella|book|toy train|movie poster",
    "many": "(phone|lamp|jacket|hat|shirt|umbrella|book|toy train|movie poster|alarm clock)s",
    "color": "(dark|light|) (red|blue|green|gray|brown)|black|white|silver|orange|golden",
    "price": "<tens> (dollars|euros)|<num> hundred dollars", "degrees": "(1|2)<d> degrees|twenty degrees",
    "level": "<tens> percent|<degrees>|maximum", "room": "kitchen|bedroom|living room|garage|study",
    "in_room": "in (the {room}|the {room}|{room=own_room})", "own_room": "<first>'s (room|bedroom|office)",
    "device": "light|lamp|fan|tv|heater|air conditioner|speaker|alarm|ceiling (light|fan)",
    "cooler": "fan|air conditioner", "field": "football|technology|stock market|movie|travel|weather|music",
    "topic": "<field>|<field>|electric cars|<name>|<city>|apple|amazon|the <city> marathon",
}

EN_TEMPLATES = {
    "play_music": """3x ! (play|put on|start) (the song|) {song} by {artist} ; ! play the song {song}
        2x ! (play|find|get me) (something|music) by {artist} ; <want> hear {song} by {artist} <end>
        2x ! (play|put on) some {genre=beat} (music|songs)""",
    "play_movie": """3x ! (play|put on|find) the (movie|film) {movie} ; 2x ! play {movie} starring {actor}
        2x <want> watch {movie} on (tv|the big screen) <end> ; is {movie} showing at the cinema <day>
        2x ! (play|find me|show me) a {genre=plot} (movie|film) (with {actor}|)""",
    "get_weather": """3x (what is|tell me|check) the (weather|forecast) (in|for) {city} <day> <end>
        2x (will it|is it going to) {condition=fall} in {city} <day> ; do i need an umbrella in {city} <day>
        2x (will it be|is it) {condition=sky} in {city} <day> ; how {condition=sky} is {city} <day>""",
    "make_call": """3x ! (call|phone|ring|dial) {person} ; 2x ! (call|dial) (the number|) {phone_number}
        2x ! give {person} a (call|ring) ; ! call {person} on {phone_number} ; ! get {person} on the line
        ! (make|set up) a (phone|video) call with {person} ; <want> (talk|speak) to {person} on the phone""",
    "navigate": """3x ! (take|drive|get) me to {place} ; 2x how (do|can) i get to {place} (from {place}|)
        2x ! (find|show me|get) the (fastest|best) (way|route) to {place} ; where is {place}
        ! find directions to {place} in {city} ; is there a {place=spot} (nearby|near here|on the way)""",
    "send_message": """3x <pre> tell {person} (that|) {message=claim} ; <pre> ask {person} {message=ask}
        2x <pre> (send|write) (a message|a text) to {person} saying {message} ; ! send {person} an email
        2x <pre> (text|message) {person} (and say {message}|that {message=claim})""",
    "set_alarm": """3x ! (set|add) an alarm (for|at) {time} (<day>|{repeat}) ; ! change my alarm to {time}
        3x ! wake me up <at> (<day>|{repeat}) ; i (need|have) to get up <at> (<day>|{repeat})
        2x ! (cancel|delete|turn off) (my|the) {time} alarm <day> ; ! book a wake up call for {time} <day>""",
    "smart_home": """3x ! (turn|switch) (on|off) the {device} (<in_room>|) ; is the {device} on <in_room>
        2x ! set the {device} (<in_room>|) to {level} ; ! set the temperature <in_room> to {level=degrees}
        2x ! (turn|switch) (on|off) the {room} {device} ; it is hot <in_room> turn on the {device=cooler}""",
    "buy_goods": """3x ! (buy|order|get me|find me) {quantity} ({color}|) {product=many}
        3x <ask_for> (buy|order) (the|the new|this) ({color}|) <goods> <end> ; do you sell <goods> in {color}
        2x ! find (some|a few) {color} {product=many} for (under|less than) {price}
        2x ! (buy|order|get me) {quantity=pack} of {product=food} ; how much is the {color} <goods>""",
    "book_restaurant": """3x ! (book|get me) a table at {restaurant} for {party_size} (people|) <day> <at>
        2x ! find a good {cuisine} (restaurant|place) in {city} (for {party_size} people|) <day>
        2x ! (book|make) a reservation at {restaurant} for {time} <day>""",
    "book_train": """3x ! (book|buy|get me|find) (a train ticket|{quantity} train tickets) <trip> <day>
        2x <want> take the train <trip> <day> ; is there a train <trip> <day> (after|before) {time}
        2x ! (book|find me) a seat in {seat_class} on the train <trip> <day> ; trains <trip>""",
    "book_flight": """3x ! (book|get me|find) (a flight|{quantity} plane tickets) <trip> <day>
        2x <want> fly (with {airline}|) <trip> <day> ; is there a flight <trip> <day> (after|before) {time}
        2x ! (book|find me) a seat in {seat_class} on the plane <trip> ; ! find {airline} flights <trip>""",
    "get_news": """3x ! (play|read me|show me|find) the latest news (about|on) {topic}
        2x what's (happening|new) in {city} <day> ; what happened in {city} {date=past}
        2x ! (play|turn on|get) the {topic=field} (news|headlines)""",
    "translate": """3x how do (you|i) say {phrase} in {language} ; what does {phrase} mean in {language}
        2x ! translate {phrase} (into|to) {language} ; what is the {language} word for {phrase=term}""",
    "chitchat": """(hey|hello|hi|good morning) (there|my friend|) (how are you|nice to meet you) (today|)
        2x ! (tell|give) me (a|another) (joke|riddle|story) (about (trains|phones|apples)|) ; can you sing
        2x do you (really|) (like|love) (music|apples|movies|jordan|washington|paris|trains|rain|me)
        i am (so|really|) (bored|tired|happy|sad) (today|tonight|) ; call me (jordan|boss|rose) from now on
        what is your (name|age|favorite (color|movie|song|city)) ; were you ever in (paris|london|beijing)""",
}

ZH_WORDS = {
    "pre": "|||||请|帮我|麻烦你|请帮我|你好", "end": "||||||谢谢|好吗|可以吗", "ask_for": "<want>|<pre>",
    "want": "我想|我要|我想要|想", "num": "两|三|四|五|六|七|八|九|十|2|3|4|5|6|8", "party_size": "<num>",
    "d": "0|1|2|3|4|5|6|7|8|9", "tens": "(2|3|4|5|6|7|8|9)<d>|二十|三十|四十|五十|二十五",
    "time": "(早上|上午|)(7|8|9|10|七|八|九|十)点<part>|(下午|)(1|2|3|4|5|一|两|三|四|五)点<part>"
            "|晚上(7|8|9|七|八|九)点<part>|(6|7|8|9|10|11):(0|1|2|3|4|5)(0|5)",
    "part": "|||半|一刻|(二|三|四|五)十分|(1|2|3|4)(0|5)分", "weekday": "(周|星期)(一|二|三|四|五|六|日|天)",
    "date": "今天|今天|明天|明天|后天|(下|这|)<weekday>|(1|2|3|5|6|8|9|10|12)月(3|5|6|1<d>|2<d>)号|国庆节",
    "past": "昨天|前天|上<weekday>", "repeat": "每天|每个工作日|每<weekday>|每个周末",
    # towns that are given names, too; 李宁 and 乔丹 are people and brands; 小米: person, brand, grain
    "both": "海宁|安康|文昌|永康|建德|瑞丽|白云", "surname": "王|李|张|刘|陈|杨|赵|黄|周|吴|徐|孙|林|高|江",
    "given": "子涵|雨桐|建国|海燕|晓东|文静|志强|思远|欣怡|俊杰|婷婷|佳琪|磊|丽|芳|伟|静|强|海宁|安康|永康",
    "name": "<surname><given>|<surname><given>|<both>|小明|李宁|乔丹|小米",
    "person": "<name>|<name>|妈妈|爸爸|老板|(老|小)<surname>|<surname>(老师|医生|经理)|<en:first>",
    "city": "<both>|<town>|<town>|(安|清|永|德|平|新)(阳|州|城|山|化|昌|源)(县|市|)", "to_city": "<city>",
    "town": "北京|上海|长沙|长沙|成都|南京|西安|兰州|大连|丽江|杭州|乌鲁木齐|巴黎|东京",
    "from_city": "<city>", "trip": "(从|){from_city}(到|去){to_city}|去{to_city}",
    "fly": "(从|){from_city}飞{to_city}|飞{to_city}", "song": "<title>", "movie": "<title>",
    "adj": "安静|温柔|蓝色|遥远|孤独|金色|快乐|沉默|疯狂|美丽|最后|透明|流浪|勇敢",
    "thing": "月亮|大海|苹果|夏天|城市|火车|车站|少年|河流|雪山|厨房|星星|花园|电话|天空|闹钟|飞鸟|台灯",
    "title": "<adj>的<thing>|<adj>的<thing>|<thing>|<thing>之(歌|城)|<city>|<city>的<thing>|再见<city>"
             "|我的<thing>|<thing>与<thing>|小明|月亮|明天|<en:title>|<en:title>", "actor": "<name>",
    "artist": "<name>|<name>|(红|黑|金)(狮子|海豚|骆驼)乐队|<en:artist>", "condition": "下雨|下雪|刮风|降温",
    "beat": "摇滚|民谣|爵士|古典|流行", "plot": "喜剧|科幻|恐怖|爱情|悬疑",
    "restaurant": "海底捞|全聚德|老<surname>(家常菜|火锅|烧烤)|<city>(酒楼|菜馆)|<thing>餐厅|<adj>小馆",
    "cuisine": "川菜|湘菜|粤菜|火锅|西餐", "spot": "加油站|火车站|博物馆|医院|电影院|书店|苹果专卖店|机场",
    "place": "<city>(火车站|机场|博物馆)|最近的<spot>|<spot>|(中山|人民|解放)(路<tens>号|广场|公园)|<name>家"
             "|<thing>酒店", "phone_number": "1(3|5|8)<d><d><d><d><d><d><d><d><d>|010<d><d><d><d><d><d><d>",
    "claim": "我(今天|明天|晚上)(不回家了|要加班|会晚点到)|我在<spot>等你|晚饭做好了|会议改到<time>了"
             "|我到<city>了|我<time>到家|我没赶上去<city>的(火车|飞机)|我已经买了<product>",
    "ask": "<spot>在哪里|现在几点了|<city>天气怎么样|认不认识<name>|去<city>的火车几点开|什么时候回家",
    "message": "<claim>|<claim>|<ask>|你好|给我回个电话|记得带<product>|帮我订个位子|把<device>关掉|一路平安",
    "phrase": "<message>|<thing>|<adj>的<thing>|苹果|月亮|再见|<product>|<en:phrase>",
    "language": "英语|英文|法语|日语|中文", "rail": "二等座|一等座|硬卧", "cabin": "经济舱|商务舱|头等舱",
    "airline": "国航|南航|(四川|厦门)航空", "tech": "苹果|苹果|小米|小米|sony", "sport": "李宁|乔丹|耐克",
    "gadget": "手机|笔记本电脑|耳机|台灯|音箱|闹钟|充电器", "wear": "书包|帽子|水壶|篮球",
    "goods": "{brand=tech}{product=gadget}|{brand=sport}{product=wear}", "product": "<gadget>|<wear>|雨伞",
    "food": "苹果|苹果|小米|小米|大米|橙子|长沙臭豆腐", "weight": "(<num>|一)(斤|箱|袋|盒)",
    "ticket": "<num>张", "pieces": "(<num>|<num>|一)个", "color": "(深|浅|)(红|蓝|灰|绿)色|黑色|白色|金色",
    "price": "(1|2|3|5|8)(0|5)0(块|元)|(<num>|一)(百|千)(块|元)|<tens>块", "degrees": "(1|2)<d>度|二十五度",
    "device": "灯|空调|电视|窗帘|风扇|加湿器|音箱|热水器|(吸顶|床头)灯|台灯|闹钟", "cooler": "空调|风扇",
    "level": "<degrees>|百分之<tens>|最大|最小|二档", "room": "客厅|厨房|卧室|书房|阳台|(<name>|妈妈)的房间",
    "field": "体育|科技|财经|娱乐|足球|音乐|电影",
    "topic": "<field>|房价|苹果|小米|新能源汽车|高考|<city>房价|长沙|<name>|<city>马拉松",
}

ZH_TEMPLATES = {
    "play_music": """3x !(放|播放|来)一首{artist}的{song} ; 2x <want>听{artist}(唱的|的){song}<end>
        2x !(放|播放|打开){song}这首(歌|曲子) ; <want>听{artist}的歌<end> ; 播放歌曲{song}<end>
        2x !(放|来|找)(点|几首|一首){genre=beat}(音乐|歌曲) ; <want>听(点|一些){genre=beat}音乐<end>""",
    "play_movie": """3x !(放|播放|打开|找)电影{movie} ; 2x <want>看{movie}这部(电影|片子)<end>
        2x <want>看{actor}(演|主演)的{movie}<end> ; 2x !(找|来)一部({actor}主演的|){genre=plot}(片|电影)""",
    "get_weather": """3x (<pre>查一下|<pre>查|){city}{date}(的|)天气(怎么样|如何|) ; {date}去{city}要带雨伞吗
        2x {date}{city}(会|会不会){condition} ; 2x {city}{date}会{condition}吗 ; {city}{date}冷不冷""",
    "make_call": """3x !给{person}打(个|)电话 ; 2x !(打电话|拨电话|打)给{person}
        2x !(拨打|打)(电话|){phone_number} ; !(呼叫|拨打|打){person}的(手机|电话)
        <want>(跟|和){person}(视频|通话|打电话)<end>""",
    "navigate": """3x !(导航|打车)(去|到){place} ; 带我去{place}<end> ; 2x 去{place}(怎么走|要多久|堵不堵)
        2x 从{place}(到|去){place}(怎么走|要多久) ; !(查|找)一下(去|到){place}的(路线|路)
        2x (附近|这边)(有没有|哪里有){place=spot} ; (请问|){place}在(哪里|哪儿)""",
    "send_message": """3x <pre>给{person}发(条|个|)(消息|微信|短信)说{message}
        2x <pre>告诉{person}(一声|){message=claim} ; 2x (帮我|麻烦你|)问(一下|问|){person}{message=ask}
        把{message}这句话发给{person}<end> ; !给{person}(发|写|回)(条|个|)(消息|微信|短信)""",
    "set_alarm": """3x !(定|设|订|设置)(一个|个){date}{time}的闹钟 ; 3x ({date}|{repeat}){time}叫我起床<end>
        2x !(取消|关掉|删除)({date}|{repeat}|){time}的闹钟 ; 我({date}|{repeat})(要|得|想){time}起床
        <pre>把{time}的闹钟(改到|调到){time} ; <pre>把闹钟(调到|设到|定在)({date}|){time}""",
    "smart_home": """3x !(打开|关掉|关上|开一下){room}的{device} ; 2x !把{device}(调到|设到|开到){level}
        2x !把{room}的{device}(打开|关掉|调到{level}|开到{level})
        {room}太(热|闷)了(打开|开一下){device=cooler} ; {room}的{device}开着吗
        {room}的温度(调到|设为){level=degrees}<end>""",
    "buy_goods": """3x <ask_for>(买|订|订购){quantity=pieces}({color}的|)<goods><end> ; 有没有{color}的<goods>
        3x <ask_for>(买|来|订){quantity=weight}{product=food}<end> ; 2x ({color}的|)<goods>(多少钱|打折吗)
        2x <pre>(找|搜)(一下|){price}(以内|左右)的(<goods>|{product}) ; 把{color}的{product}放进购物车""",
    "book_restaurant": """3x <pre>(订|预订)(一个|){date}({time}|){restaurant}的(位子|包间)({party_size}个人|)
        2x !在{restaurant}(订|预订)(一张|个){party_size}人的(桌子|位子|包间)
        2x <pre>找一家{city}的{cuisine}馆(订{party_size}人的位子|) ; {party_size}个人去{restaurant}订位子""",
    "book_train": """3x <ask_for>(订|买)({quantity=ticket}|)({date}|)<trip>的({seat_class=rail}|)火车票<end>
        2x {date}<trip>的(高铁|火车)(还有票吗|几点开|有没有{seat_class=rail})
        <want>坐(火车|高铁)去{to_city}(从{from_city}出发|{date}{from_city}上车) ; 查{from_city}出发的火车""",
    "book_flight": """3x <ask_for>(订|买)({quantity=ticket}|)({date}|)<fly>的机票<end>
        2x {date}<fly>的({airline}|)(航班|机票)(还有吗|几点起飞|多少钱) ; 查{date}从{from_city}起飞的航班
        2x <ask_for>(订|买)({date}|)(<fly>|<trip>)的({airline}|{seat_class=cabin})机票<end>""",
    "get_news": """3x !(播放|放|查|看|找)(一下|)(关于|有关){topic}的(新闻|消息) ; {date=past}{city}发生了什么
        2x {city}({date}|最近)(有什么|有没有)(新闻|大事) ; 2x !(打开|播放|放){topic=field}新闻""",
    "translate": """3x {phrase}用{language}怎么(说|讲|写) ; 2x !把{phrase}(翻译成|翻成){language}
        <pre>用{language}说{phrase}""",
    "chitchat": """(你好|嗨|早上好|晚上好)(呀|啊|)(今天过得怎么样|很高兴认识你|最近好吗) ; 你叫什么名字
        2x !(讲|说|来)(一个|个)(笑话|故事|谜语)(听听|给我听|) ; 你去过(北京|长沙|巴黎|雪山)吗 ; 你多大了
        2x 你(真的|也|)喜欢(吃苹果|听歌|看电影|长沙|坐火车|下雨天|月亮)吗 ; 以后叫我(小明|老板|乔丹)(吧|好了|)
        (陪我|和我)(聊聊天|玩个游戏|下盘棋)(吧|好吗|) ; 我(今天|最近|)(好|有点|特别)(无聊|累|开心|饿)(啊|)""",
}

WORDS = {"en": EN_WORDS, "zh": ZH_WORDS}
TEMPLATES = {"en": EN_TEMPLATES, "zh": ZH_TEMPLATES}
FILLERS = {"en": ["um", "uh"], "zh": ["嗯", "呃", "那个"]}
HOMOPHONES = str.maketrans("在的吗做订帮那播查座放", "再得嘛作定邦哪拨察坐方")
NOISE_RATE = 0.12

_GROUP = re.compile(r"\(([^()]*)\)")
_REFERENCE = re.compile(r"<(?:(en):)?(\w+)>|\{(\w+)(?:=(\w+))?\}")
_PIECE = re.compile(r"\[(\w+):([^\]]*)\]|([^\[]+)")
_TOKEN = re.compile(r"[a-z0-9':]+|[\u4e00-\u9fff]")
_VALUE_TWICE = re.compile(r":([^\]]+)\].*:\1\]")


def expand(text: str, lang: str, rng: random.Random, tagged: bool = True) -> str:
    """Speak one template: `play {song}` becomes `play [song:lonely moon]`; no brackets if not `tagged`."""
    while _GROUP.search(text):
        text = _GROUP.sub(lambda group: rng.choice(group[1].split("|")), text)

    def resolve(reference: re.Match[str]) -> str:
        language, word, slot, entry = reference.groups()
        language = language or lang
        value = expand(f"({WORDS[language][word or entry or slot]})", language, rng, tagged and not slot)
        return f"[{slot}:{value}]" if slot and tagged else value

    return _REFERENCE.sub(resolve, text)


def to_tokens(marked: str) -> tuple[list[str], list[str]]:
    """Cut `play [song:lonely moon]` into tokens and BIO tags."""
    tokens: list[str] = []
    tags: list[str] = []
    for slot, value, plain in _PIECE.findall(marked):
        found = _TOKEN.findall(value or plain)
        tokens += found
        tags += [f"{'I' if i else 'B'}-{slot}" if slot else "O" for i in range(len(found))]
    return tokens, tags


def add_noise(tokens: list[str], tags: list[str], lang: str, rng: random.Random) -> None:
    """Disturb one word outside the slots, in place: a filler before it, said twice, mistyped or misheard."""
    kind = rng.choice(["filler", "twice", "slip", "slip"])
    spots = [i for i, tag in enumerate(tags) if tag == "O"]
    if kind != "slip":
        if lang == "zh":  # characters are not words: hesitate only where a phrase begins
            spots = [i for i in spots if i == 0 or tags[i - 1] != "O"]
        spot = rng.choice(spots)
        extra = [tokens[spot]] if kind == "twice" else _TOKEN.findall(rng.choice(FILLERS[lang]))
        tokens[spot:spot], tags[spot:spot] = extra, ["O"] * len(extra)
    elif lang == "zh":
        spot = rng.choice(spots)
        tokens[spot] = tokens[spot].translate(HOMOPHONES)  # most characters have none here and stay
    elif spots := [i for i in spots if len(tokens[i]) > 4]:  # from, to, by decide the slots: spare them
        spot = rng.choice(spots)
        word, cut = tokens[spot], rng.randrange(1, len(tokens[spot]) - 1)
        tokens[spot] = word[:cut] + rng.choice([word[cut + 1], word[cut + 1] + word[cut]]) + word[cut + 2:]


def parse_templates(text: str) -> tuple[list[str], list[int]]:
    """The templates of one intent and their weights."""
    found = [re.fullmatch(r"(?:(\d)x )?(!?)(.+)", part.strip()) for part in re.split("[;\n]", text)]
    templates = [f"<pre>{match[3]}<end>" if match[2] else match[3] for match in found if match]
    return templates, [int(match[1] or 1) for match in found if match]


def generate(num_sentences: int = 4000, seed: int = 0) -> list[dict]:
    """Distinct labelled sentences, half of them Chinese; the same arguments give the same list everywhere."""
    rng = random.Random(seed)
    intents, weights = list(INTENT_WEIGHTS), list(INTENT_WEIGHTS.values())
    tables = {lang: {intent: parse_templates(text) for intent, text in table.items()}
              for lang, table in TEMPLATES.items()}
    seen: set[tuple[str, ...]] = set()
    records: list[dict] = []
    while len(records) < num_sentences:
        lang, intent = rng.choice(["en", "zh"]), rng.choices(intents, weights)[0]
        for _ in range(1000):  # draw again within the intent, so that its share stays as given
            marked = expand(rng.choices(*tables[lang][intent])[0], lang, rng)
            tokens, tags = to_tokens(marked)
            if rng.random() < NOISE_RATE:
                add_noise(tokens, tags, lang, rng)
            if tuple(tokens) not in seen and not _VALUE_TWICE.search(marked):  # no trip from paris to paris
                break
        else:
            raise ValueError(f"no new {lang} {intent} sentence: num_sentences={num_sentences} is too many")
        seen.add(tuple(tokens))
        records.append({"tokens": tokens, "tags": tags, "intent": intent})
    return records


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write the bilingual sample corpus for intents and slots.")
    parser.add_argument("--out", required=True, help="folder that receives all.jsonl")
    parser.add_argument("--num_sentences", type=int, default=4000, help="number of distinct sentences")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another corpus")
    args = parser.parse_args(argv)
    path = Path(args.out) / "all.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in generate(args.num_sentences, args.seed):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    print(f"{args.num_sentences} sentences -> {path}")


if __name__ == "__main__":
    main()
