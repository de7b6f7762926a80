//! Windows that begin at calendar instants of a time zone: days, weeks (from Monday), months, and all time.
//!
//! A window is found from the instant alone, so a clock that is put back finds the window that it is in again. Days of
//! 23 and 25 hours, months of 28 to 31 days and dates that a zone has skipped are as long as they are there.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::super::price::{Amount, Nano};

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    Day,
    Week,
    Month,
    /// It never ends.
    Total,
    /// It never ends either, counts what is charged, and may have what was paid in.
    Prepaid,
}

impl Period {
    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Total => "total",
            Period::Prepaid => "prepaid",
        }
    }

    /// As sentences have it.
    pub fn adjective(self) -> &'static str {
        match self {
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Total => "total",
            Period::Prepaid => "prepaid",
        }
    }

    /// What of an attempt counts.
    pub fn of(self, amount: Amount) -> Nano {
        match self {
            Period::Prepaid => amount.charge,
            _ => amount.cost,
        }
    }
}

/// Which windows follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub period: Period,
    pub zone: TimeZone,
    /// The zone's name as it was written: `UTC`, `Europe/Berlin`.
    pub zone_name: String,
}

/// One window, in Unix milliseconds: the first included, the last not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    /// All time.
    pub const ALWAYS: Span = Span { from: 0, to: u64::MAX };

    pub fn has(self, unix_ms: u64) -> bool {
        self.from <= unix_ms && unix_ms < self.to
    }
}

impl Window {
    /// Short, for labels: `month`, `day Europe/Berlin`.
    pub fn name(&self) -> String {
        match self.zone_name.as_str() {
            "UTC" => self.period.name().to_owned(),
            zone => format!("{} {zone}", self.period.name()),
        }
    }

    /// The window that an instant is in. Instants beyond the calendar (the year 9999) are in one that never ends.
    pub fn span(&self, unix_ms: u64) -> Span {
        self.found(unix_ms).filter(|span| span.has(unix_ms)).unwrap_or(Span::ALWAYS)
    }

    fn found(&self, unix_ms: u64) -> Option<Span> {
        let now = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
        let today = now.to_zoned(self.zone.clone()).date();
        let (first, next) = match self.period {
            Period::Day => (today, today.checked_add(1.day()).ok()?),
            Period::Week => {
                let monday = today.checked_sub(i64::from(today.weekday().to_monday_zero_offset()).days()).ok()?;
                (monday, monday.checked_add(7.days()).ok()?)
            }
            Period::Month => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month()).ok()?)
            }
            Period::Total | Period::Prepaid => return Some(Span::ALWAYS),
        };
        Some(Span { from: self.beginning(first)?, to: self.beginning(next)? })
    }

    /// The first instant of a date; of one that the zone has skipped, the first after it.
    fn beginning(&self, date: Date) -> Option<u64> {
        let begins = date.to_zoned(self.zone.clone()).ok()?.timestamp().as_millisecond();
        Some(u64::try_from(begins).unwrap_or(0))
    }

    /// An instant as people of the zone write it: `2026-12-01 00:00 Europe/Berlin`.
    pub fn told(&self, unix_ms: u64) -> String {
        let instant = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let Some(instant) = instant else { return String::new() };
        let at = instant.to_zoned(self.zone.clone());
        format!("{} {:02}:{:02} {}", at.date(), at.hour(), at.minute(), self.zone_name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;

    /// Zones by their rules of late (tzfile(5), the last line of each), so that no test reads a file.
    const ZONES: [(&str, &str); 8] = [
        ("UTC", "UTC0"),
        ("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"),
        ("America/New_York", "EST5EDT,M3.2.0,M11.1.0"),
        ("America/Sao_Paulo", "<-03>3<-02>,M11.1.0/0,M2.3.0/0"),
        ("America/Havana", "CST5CDT,M3.2.0/0,M11.1.0/1"),
        ("Australia/Lord_Howe", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"),
        ("Asia/Kathmandu", "<+0545>-5:45"),
        ("Asia/Tokyo", "JST-9"),
    ];

    fn window(period: Period, zone: &str) -> Window {
        let (_, rules) = ZONES.into_iter().find(|(name, _)| *name == zone).unwrap();
        Window { period, zone: TimeZone::posix(rules).unwrap(), zone_name: zone.to_owned() }
    }

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    #[test]
    fn windows_begin_where_the_calendar_of_the_zone_says() {
        for (period, zone, now, from, to) in [
            (Period::Day, "UTC", "2026-11-21T23:59:59.999Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            (Period::Day, "UTC", "2026-11-22T00:00:00Z", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
            (Period::Day, "Europe/Berlin", "2026-11-21T23:00:00Z", "2026-11-21T23:00:00Z", "2026-11-22T23:00:00Z"),
            // A day of 23 hours, and one of 25.
            (Period::Day, "Europe/Berlin", "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Period::Day, "America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            // Clocks that are put forward, and back, at midnight.
            (Period::Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"),
            (Period::Day, "America/Havana", "2026-11-01T04:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            (Period::Day, "America/Havana", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            // Half an hour, and three quarters of one.
            (
                Period::Day,
                "Australia/Lord_Howe",
                "2026-04-04T20:00:00Z",
                "2026-04-04T13:00:00Z",
                "2026-04-05T13:30:00Z",
            ),
            (Period::Day, "Asia/Kathmandu", "2026-01-01T00:00:00Z", "2025-12-31T18:15:00Z", "2026-01-01T18:15:00Z"),
            (Period::Week, "UTC", "2026-11-22T12:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            (Period::Week, "Asia/Tokyo", "2026-11-22T15:00:00Z", "2026-11-22T15:00:00Z", "2026-11-29T15:00:00Z"),
            (Period::Month, "UTC", "2028-02-29T23:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Period::Month, "UTC", "2026-02-28T23:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            (Period::Month, "Europe/Berlin", "2026-10-31T23:30:00Z", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
            (Period::Month, "Asia/Tokyo", "2026-12-31T15:00:00Z", "2026-12-31T15:00:00Z", "2027-01-31T15:00:00Z"),
        ] {
            let span = window(period, zone).span(at(now));
            assert_eq!(span, Span { from: at(from), to: at(to) }, "{period:?} of {zone} at {now}");
        }
        assert_eq!(window(Period::Total, "UTC").span(at("2026-11-21T00:00:00Z")), Span::ALWAYS);
        assert_eq!(window(Period::Day, "UTC").span(u64::MAX - 1), Span::ALWAYS, "beyond the calendar");
        assert_eq!(
            window(Period::Month, "Europe/Berlin").told(at("2026-11-30T23:00:00Z")),
            "2026-12-01 00:00 Europe/Berlin"
        );
    }

    proptest! {
        #[test]
        fn windows_follow_one_another_without_gap_or_overlap(
            half_hours in 0u64..(130 * 365 * 48),
            zone in prop::sample::select(ZONES.map(|(name, _)| name).to_vec()),
            period in prop::sample::select(vec![Period::Day, Period::Week, Period::Month]),
        ) {
            let (window, now) = (window(period, zone), half_hours * HOUR / 2 + 32 * 86_400_000);
            let span = window.span(now);
            prop_assert!(span.has(now));
            prop_assert_eq!(window.span(span.from), span);
            prop_assert_eq!(window.span(span.to - 1), span);
            let next = window.span(span.to);
            prop_assert_eq!(next.from, span.to);
        }
    }
}
