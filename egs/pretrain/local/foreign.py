"""Sentences and digits in German, French and Spanish, from templates: what other parts of the web speak and write.

`draw(rng, language, digits)` gives one lower-case text without punctuation, as `egs/mini/local/sentences.py` does.
"""

import random
import re

_DIGITS = {
    "de": "null eins zwei drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
}
_WORDS = {
    "de": {
        "who": "der Lehrer|die Nachbarin|mein Bruder|ihre Schwester|der Bäcker|das Kind|unser Arzt|die Kellnerin",
        "does": "kauft|sucht|findet|bringt|verkauft|vergisst|malt|öffnet|zählt|trägt",
        "what": "den alten Tisch|eine rote Lampe|das neue Buch|die schwere Tasche|einen Schlüssel|frisches Brot",
        "where": "in der Küche|auf dem Markt|hinter dem Bahnhof|am Fluss|vor der Schule|unter der Brücke|im Garten",
        "when": "heute|am Montag|im Winter|jeden Morgen|gegen Abend|nächste Woche|um drei Uhr",
    },
    "fr": {
        "who": "le professeur|la voisine|mon frère|sa sœur|le boulanger|l'enfant|notre médecin|la serveuse",
        "does": "achète|cherche|trouve|apporte|vend|oublie|peint|ouvre|compte|porte",
        "what": "la vieille table|une lampe rouge|le nouveau livre|le sac très lourd|une petite clé|du pain frais",
        "where": "dans la cuisine|au marché|derrière la gare|près du fleuve|devant l'école|sous le pont|dans le jardin",
        "when": "aujourd'hui|lundi prochain|en hiver|chaque matin|vers le soir|la semaine prochaine|à trois heures",
    },
    "es": {
        "who": "el profesor|la vecina|mi hermano|su hermana|el panadero|la niña|nuestro médico|la camarera",
        "does": "compra|busca|encuentra|trae|vende|olvida|pinta|abre|cuenta|lleva",
        "what": "la mesa vieja|una lámpara roja|el libro nuevo|la bolsa pesada|una llave pequeña|el pan fresco",
        "where": "en la cocina|en el mercado|detrás de la estación|junto al río|delante de la escuela|bajo el puente",
        "when": "hoy|el próximo lunes|en invierno|cada mañana|por la tarde|la semana que viene|a las tres",
    },
}
_TEMPLATES = ("{who} {does} {what} {where}", "{when} {does} {who} {what}", "{who} {does} {what} {when} {where}")


def draw(rng: random.Random, language: str, digits: float) -> str:
    """Draw one text.

    Args:
        rng: The source of chance.
        language: de, fr or es.
        digits: Share of digit strings.
    """
    if rng.random() < digits:
        return " ".join(rng.choice(_DIGITS[language].split()) for _ in range(rng.randint(3, 7)))
    words = _WORDS[language]
    return re.sub(r"\{(\w+)\}", lambda slot: rng.choice(words[slot[1]].split("|")), rng.choice(_TEMPLATES)).lower()
