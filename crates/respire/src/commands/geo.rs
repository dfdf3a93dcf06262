//! Places on the Earth, kept in sorted sets.

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{Executor, FromReply, Order, replies};
use crate::{
    Bytes,
    command::{Args, Command, ToArg},
};

/// Commands on [places](https://valkey.io/commands/#geo) of `n` members. Each takes O(log n) a member unless it says
/// otherwise.
///
/// ```no_run
/// use respire::commands::*;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// client.geoadd("cities", [(GeoPosition::new(13.361389, 38.115556), "Palermo")]).await?;
/// let near = GeoSearch::around(GeoPosition::new(15.0, 37.0)).radius(200.0, GeoUnit::Kilometres);
/// for hit in client.geosearch_hits::<String>("cities", near).await? {
///     println!("{} is {} km away", hit.member, hit.distance);
/// }
/// # Ok(())
/// # }
/// ```
pub trait GeoCommands: Executor {
    /// `GEOADD`: adds places, or moves them. How many are new.
    fn geoadd(
        self,
        key: impl ToArg,
        places: impl IntoIterator<Item = (GeoPosition, impl ToArg)>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("GEOADD").arg(key).args(places).typed())
    }

    /// `GEODIST`: the distance between two places; `None` where one does not exist.
    fn geodist(
        self,
        key: impl ToArg,
        first: impl ToArg,
        second: impl ToArg,
        unit: GeoUnit,
    ) -> Self::Answer<Option<f64>> {
        self.run(Command::new("GEODIST").arg(key).arg(first).arg(second).arg(unit).typed())
    }

    /// `GEOHASH`: the Geohash strings of places, in their order.
    fn geohash(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<Option<String>>> {
        self.run(Command::new("GEOHASH").arg(key).args(members).typed())
    }

    /// `GEOPOS`: where places are, in their order, about as exact as they were added.
    fn geopos(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<Option<GeoPosition>>> {
        self.run(Command::new("GEOPOS").arg(key).args(members).typed())
    }

    /// `GEOSEARCH`: the places in an area. O(n in the area's surroundings + log n)
    fn geosearch<T: FromReply>(self, key: impl ToArg, search: GeoSearch) -> Self::Answer<Vec<T>> {
        self.run(Command::new("GEOSEARCH").arg(key).arg(search).typed())
    }

    /// `GEOSEARCH … WITHDIST WITHCOORD`: the places in an area, with where they are and how far from its centre.
    fn geosearch_hits<T: FromReply>(
        self,
        key: impl ToArg,
        search: GeoSearch,
    ) -> Self::Answer<Vec<GeoHit<T>>> {
        let command = Command::new("GEOSEARCH").arg(key).arg(search);
        self.run(command.arg("WITHDIST").arg("WITHCOORD").typed())
    }

    /// `GEOSEARCHSTORE`: makes a set of the places in an area. Its size.
    fn geosearchstore(
        self,
        to: impl ToArg,
        key: impl ToArg,
        search: GeoSearch,
    ) -> Self::Answer<u64> {
        self.run(Command::new("GEOSEARCHSTORE").arg(to).arg(key).arg(search).typed())
    }

    /// `GEOSEARCHSTORE … STOREDIST`: makes a sorted set of the places in an area, by the distance from its centre. Its size.
    fn geosearchstore_distances(
        self,
        to: impl ToArg,
        key: impl ToArg,
        search: GeoSearch,
    ) -> Self::Answer<u64> {
        let command = Command::new("GEOSEARCHSTORE").arg(to).arg(key).arg(search);
        self.run(command.arg("STOREDIST").typed())
    }
}

impl<E: Executor> GeoCommands for E {}

/// A place in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeoPosition {
    /// East is positive; -180 to 180.
    pub longitude: f64,
    /// North is positive; -85.05112878 to 85.05112878, as servers take it.
    pub latitude: f64,
}

impl GeoPosition {
    /// A place by its longitude and latitude, in this order.
    pub const fn new(longitude: f64, latitude: f64) -> Self {
        Self { longitude, latitude }
    }
}

impl ToArg for GeoPosition {
    fn add_to(&self, args: &mut Args) {
        (self.longitude, self.latitude).add_to(args);
    }
}

impl<'a> FromValue<'a> for GeoPosition {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (longitude, latitude) = value.parse()?;
        Ok(Self { longitude, latitude })
    }
}

/// A place that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct GeoHit<T> {
    /// Which it is.
    pub member: T,
    /// How far it is from the centre, in the unit of the search.
    pub distance: f64,
    /// Where it is.
    pub position: GeoPosition,
}

impl<'a, T: FromValue<'a>> FromValue<'a> for GeoHit<T> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        const EXPECTED: &str = "a place";
        let mut items = replies::elements(value, EXPECTED)?;
        Ok(Self {
            member: replies::next(&mut items, EXPECTED)?.parse()?,
            distance: replies::next(&mut items, EXPECTED)?.parse()?,
            position: replies::next(&mut items, EXPECTED)?.parse()?,
        })
    }
}

/// A unit of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeoUnit {
    /// m
    Metres,
    /// km
    Kilometres,
    /// ft
    Feet,
    /// mi
    Miles,
}

impl ToArg for GeoUnit {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Metres => args.push(b"m"),
            Self::Kilometres => args.push(b"km"),
            Self::Feet => args.push(b"ft"),
            Self::Miles => args.push(b"mi"),
        }
    }
}

/// An area, and which of the places in it.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct GeoSearch {
    centre: Centre,
    shape: GeoShape,
    unit: GeoUnit,
    order: Option<Order>,
    count: Option<(u64, bool)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Centre {
    Position(GeoPosition),
    Member(Bytes),
}

/// In the unit of the search.
#[derive(Clone, Copy, Debug, PartialEq)]
enum GeoShape {
    Radius(f64),
    Box { width: f64, height: f64 },
}

impl GeoSearch {
    /// One kilometre around a position, unless told otherwise.
    pub fn around(position: GeoPosition) -> Self {
        Self::new(Centre::Position(position))
    }

    /// One kilometre around a member, which must exist, unless told otherwise.
    pub fn around_member(member: impl Into<Bytes>) -> Self {
        Self::new(Centre::Member(member.into()))
    }

    fn new(centre: Centre) -> Self {
        let (shape, unit) = (GeoShape::Radius(1.0), GeoUnit::Kilometres);
        Self { centre, shape, unit, order: None, count: None }
    }

    /// In a circle.
    pub fn radius(self, radius: f64, unit: GeoUnit) -> Self {
        Self { shape: GeoShape::Radius(radius), unit, ..self }
    }

    /// In a box: from west to east, and from south to north.
    pub fn within_box(self, width: f64, height: f64, unit: GeoUnit) -> Self {
        Self { shape: GeoShape::Box { width, height }, unit, ..self }
    }

    /// From the nearest to the farthest, or the other way round.
    pub fn order(self, order: Order) -> Self {
        Self { order: Some(order), ..self }
    }

    /// The nearest ones, `count` at most.
    pub fn nearest(self, count: u64) -> Self {
        Self { count: Some((count, false)), ..self }
    }

    /// Any, `count` at most, which costs less.
    pub fn any(self, count: u64) -> Self {
        Self { count: Some((count, true)), ..self }
    }
}

impl ToArg for GeoSearch {
    fn add_to(&self, args: &mut Args) {
        match &self.centre {
            Centre::Position(position) => ("FROMLONLAT", position).add_to(args),
            Centre::Member(member) => ("FROMMEMBER", member).add_to(args),
        }
        match self.shape {
            GeoShape::Radius(radius) => ("BYRADIUS", radius).add_to(args),
            GeoShape::Box { width, height } => ("BYBOX", (width, height)).add_to(args),
        }
        self.unit.add_to(args);
        if let Some(order) = self.order {
            order.add_to(args);
        }
        if let Some((count, any)) = self.count {
            ("COUNT", count).add_to(args);
            if any {
                args.push(b"ANY");
            }
        }
    }
}
