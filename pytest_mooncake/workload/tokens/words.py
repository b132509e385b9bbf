"""Ordinary English words: text to learn a server's token ids from, and prompts where no ids can be had.

All lower case, no punctuation: with a space before it each is a single token in every large model's vocabulary, so a
text of n of them is close to n tokens even when nothing can be counted.
"""

from __future__ import annotations

TEXT = """
able about above across act action active actual add address after again age ago agree air all allow alone along
already also always amount and animal another answer any appear apply area arm around arrive art article ask attack
author available average avoid away baby back bad bag balance ball band bank bar base basic battle bear beat
beautiful because become bed before begin behind believe below benefit best better between beyond big bill bird bit
black block blood blue board boat body book border born both bottom box boy branch break bridge brief bright bring
broad brother brown build burn business buy call calm camera camp can capital car card care carry case cat catch
cause cell center central century certain chain chair challenge chance change chapter character charge cheap check
child choice choose church circle citizen city claim class clean clear climb clock close cloth cloud club coach coal
coast coat code coffee cold collect college color column come common company complete computer concern condition
conference connect consider contain content context continue contract control cook cool copy corner correct cost
cotton could council count country couple course court cover create credit crew crime cross crowd culture cup
current customer cut daily damage dance danger dark data date daughter day dead deal debate decade decide deep
defense degree deliver demand depend describe desert design desk detail develop device die difference difficult
dinner direct discover discuss disease distance divide doctor document dog door double down draw dream dress drink
drive drop dry during dust duty each ear early earth ease east easy eat economy edge education effect effort egg
eight either election electric element else empty end enemy energy engine enjoy enough enter entire equal escape
even evening event ever every evidence exact example except exchange exercise exist expect experience explain
express extend eye face fact factor fail fair faith fall family famous far farm fast father favor fear feature
feel few field fight figure file fill film final find fine finger finish fire firm first fish fit five fix flat
flight floor flow flower fly follow food foot force foreign forest forget form formal forward found four frame free
fresh friend from front fruit fuel full fun function future gain game garden gas gate general gentle get gift girl
give glad glass goal gold good grade grain grand grant grass gray great green ground group grow guard guess guide
gun habit hair half hall hand happen happy hard hat have head health hear heart heat heavy height help here hide
high hill history hit hold hole holiday home honest hope horse hospital host hot hotel hour house how huge human
hundred hunt hurry idea image impact important inch include income increase indeed index industry inside instead
interest into iron island issue item job join joint journey judge jump just keep key kid kind king kitchen knee know
labor lack lady lake land language large last late laugh law layer lead learn least leave left leg legal length less
lesson letter level library life lift light like limit line link lion list listen little live local lock long look
loose lord lose loss lost lot loud love low luck lunch machine magic mail main make male manage many map mark market
marriage mass master match material matter may maybe meal mean measure meat media medical meet member memory mental
"""
WORDS: tuple[str, ...] = tuple(TEXT.split())
"""Distinct words, more than 500 of them."""
