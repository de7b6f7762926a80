//! What was taken of a limit: the arithmetic of each way to count, on atomics.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::{By, Limit, Per, Standing, Wait};
use crate::policy::Moment;

/// Parts of a sliding window. What was taken counts for a part longer than the window, so that no window holds more than
/// the limit; at full load that costs one part in so many.
const SLOTS: u64 = 320;
/// The window, the part that is being filled, and one that is empty.
const RING: u64 = SLOTS + 2;
/// One call that had to give back, in [`State::open`].
const UNDONE: u64 = 1 << 32;

/// The state of one limit of one level.
#[derive(Debug)]
pub struct State {
    count: Count,
    /// Calls that have taken of it and may have to give back at once, since another limit refuses them; in the upper half,
    /// how many had to.
    open: AtomicU64,
}

#[derive(Debug)]
enum Count {
    Sliding(Sliding),
    Bucket(Bucket),
    Fixed(Fixed),
    Running(AtomicU64),
}

impl State {
    pub fn new(per: Per, by: &By) -> State {
        let count = match by {
            By::SlidingWindow => Count::Sliding(Sliding::new(per.micros())),
            By::TokenBucket { .. } => {
                Count::Bucket(Bucket { window: per.micros().saturating_mul(1_000), full: AtomicU64::new(0) })
            }
            By::FixedWindow { .. } => Count::Fixed(Fixed { per, ..Fixed::default() }),
            By::AtOnce => Count::Running(AtomicU64::new(0)),
        };
        State { count, open: AtomicU64::new(0) }
    }

    /// A call begins to take of it, together with others.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, AcqRel);
    }

    /// The call has taken of all, or has given everything back.
    pub(super) fn end(&self, undone: bool) {
        self.open.fetch_add(if undone { UNDONE - 1 } else { u64::MAX }, AcqRel);
    }

    /// The same number before and after, with nobody in between ([`State::is_quiet`]): nothing was taken only to be given
    /// back.
    pub(super) fn mark(&self) -> u64 {
        self.open.load(Acquire)
    }

    pub(super) fn is_quiet(mark: u64) -> bool {
        mark.is_multiple_of(UNDONE)
    }

    /// Whether so much can be taken now.
    pub(super) fn room(&self, limit: &Limit, n: u64, most: u64, now: Moment) -> Result<(), Wait> {
        match (&self.count, &limit.by) {
            (Count::Sliding(sliding), _) => sliding.room(n, most, now.mono),
            (Count::Bucket(bucket), By::TokenBucket { burst }) => bucket.room(n, most, limit.most, *burst, now.mono),
            (Count::Fixed(fixed), By::FixedWindow { zone }) => fixed.room(n, most, zone, now.unix_ms),
            (Count::Running(running), _) => {
                let fits = running.load(Acquire).saturating_add(n) <= most;
                fits.then_some(()).ok_or(Wait::Unknown)
            }
            // A state is found by the way it counts.
            _ => Ok(()),
        }
    }

    /// Takes so much; gives what [`State::give_back`] needs to know.
    pub(super) fn take(&self, limit: &Limit, n: u64, most: u64, now: Moment) -> Result<u64, Wait> {
        match (&self.count, &limit.by) {
            (Count::Sliding(sliding), _) => sliding.take(n, most, now.mono),
            (Count::Bucket(bucket), By::TokenBucket { burst }) => bucket.take(n, most, limit.most, *burst, now.mono),
            (Count::Fixed(fixed), By::FixedWindow { zone }) => fixed.take(n, most, zone, now.unix_ms),
            (Count::Running(running), _) => raise(running, n, most).map(|()| 0).map_err(|()| Wait::Unknown),
            _ => Ok(0),
        }
    }

    /// More was used than was taken: it counts, whether there is room or not.
    pub(super) fn add(&self, limit: &Limit, n: u64, now: Moment) {
        match (&self.count, &limit.by) {
            (Count::Sliding(sliding), _) => sliding.add(n, now.mono),
            (Count::Bucket(bucket), _) => bucket.add(n, limit.most, now.mono),
            (Count::Fixed(fixed), By::FixedWindow { zone }) => fixed.add(n, zone, now.unix_ms),
            (Count::Running(running), _) => {
                running.fetch_add(n, AcqRel);
            }
            _ => {}
        }
    }

    /// So much of what was taken was not used.
    pub(super) fn give_back(&self, limit: &Limit, mark: u64, n: u64, now: Moment) {
        if n == 0 {
            return;
        }
        match &self.count {
            Count::Sliding(sliding) => sliding.give_back(mark, n),
            Count::Bucket(bucket) => {
                // At the quickest rate that it may have been taken at.
                let most = limit.elastic.map_or(limit.most, |elastic| elastic.most.max(limit.most));
                bucket.give_back(mark, n, most, now.mono);
            }
            Count::Fixed(fixed) => fixed.give_back(mark, n),
            Count::Running(running) => lower(running, n),
        }
    }

    pub(super) fn standing(&self, limit: &Limit, most: u64, now: Moment) -> Standing {
        match (&self.count, &limit.by) {
            (Count::Sliding(sliding), _) => sliding.standing(most, now.mono),
            (Count::Bucket(bucket), By::TokenBucket { burst }) => bucket.standing(limit.most, *burst, now.mono),
            (Count::Fixed(fixed), By::FixedWindow { zone }) => fixed.standing(most, zone, now.unix_ms),
            (Count::Running(running), _) => {
                let remaining = most.saturating_sub(running.load(Acquire));
                Standing { limit: most, remaining, reset: Duration::ZERO }
            }
            _ => Standing { limit: most, remaining: most, reset: Duration::ZERO },
        }
    }

    /// Whether nothing of what it counts is left: a new one would be the same.
    pub fn is_blank(&self, now: Moment) -> bool {
        match &self.count {
            Count::Sliding(sliding) => {
                sliding.turn(now.mono);
                sliding.total.load(Acquire) == 0
            }
            Count::Bucket(bucket) => bucket.full.load(Acquire) <= now.mono.saturating_mul(1_000),
            Count::Fixed(fixed) => now.unix_ms >= fixed.end.load(Acquire),
            Count::Running(running) => running.load(Acquire) == 0,
        }
    }
}

/// What was taken in the last window, part by part.
#[derive(Debug)]
struct Sliding {
    /// Microseconds of a part.
    slot: u64,
    /// All that counts: what stands in the parts, and what is on its way there.
    total: AtomicU64,
    /// The number of the part that is being filled.
    head: AtomicU64,
    /// Made when the first is taken: most limits of most keys are never met.
    slots: OnceLock<Box<[AtomicU64]>>,
    /// Held where the window moves on, and where something is given back; takers do not need it.
    turning: Mutex<()>,
}

impl Sliding {
    fn new(window: u64) -> Sliding {
        Sliding {
            slot: window / SLOTS,
            total: AtomicU64::new(0),
            head: AtomicU64::new(0),
            slots: OnceLock::new(),
            turning: Mutex::new(()),
        }
    }

    fn slots(&self) -> &[AtomicU64] {
        self.slots.get_or_init(|| (0..RING).map(|_| AtomicU64::new(0)).collect())
    }

    fn at(&self, number: u64) -> Option<&AtomicU64> {
        self.slots().get(usize::try_from(number % RING).unwrap_or(0))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the window on to this moment; gives the number of the part that it ends with.
    ///
    /// Nobody fills a part that is still ahead of the head, so the part that is emptied here is one that nobody fills; who
    /// was held up between two steps fills one that is older, which then counts for longer.
    fn turn(&self, now: u64) -> u64 {
        // From there, so that there is always a window before it.
        let number = now / self.slot + RING;
        let head = self.head.load(Acquire);
        if head >= number {
            return head;
        }
        let _turning = self.lock();
        let head = self.head.load(Acquire);
        if head >= number {
            return head;
        }
        if self.slots.get().is_some() {
            let passed = (number - head).min(RING);
            // The one that leaves as a new one begins is the one after it in the ring.
            let left = (number - passed + 1..=number).filter_map(|new| self.at(new + 1));
            let left = left.map(|slot| slot.swap(0, Acquire)).fold(0, u64::saturating_add);
            self.total.fetch_sub(left, AcqRel);
        }
        self.head.store(number, Release);
        number
    }

    fn room(&self, n: u64, most: u64, now: u64) -> Result<(), Wait> {
        let head = self.turn(now);
        let over = self.total.load(Acquire).saturating_add(n).saturating_sub(most);
        // What is filled next, fetched while the other limits are looked at: among many callers it is in no cache, and
        // filling one after another would wait for each.
        if let Some(slot) = self.slots.get().and_then(|slots| slots.get(usize::try_from(head % RING).unwrap_or(0))) {
            std::hint::black_box(slot.load(Relaxed));
        }
        if over == 0 { Ok(()) } else { Err(self.wait(over, head, now)) }
    }

    /// Until so much has left the window.
    fn wait(&self, over: u64, head: u64, now: u64) -> Wait {
        let mut left = 0u64;
        for number in head - SLOTS..=head {
            left = left.saturating_add(self.at(number).map_or(0, |slot| slot.load(Acquire)));
            if left >= over {
                return Wait::Micros(self.leaves(number).saturating_sub(now).max(1));
            }
        }
        Wait::Micros(self.leaves(head).saturating_sub(now).max(1))
    }

    /// When a part counts no more.
    fn leaves(&self, number: u64) -> u64 {
        (number + SLOTS + 1 - RING) * self.slot
    }

    fn take(&self, n: u64, most: u64, now: u64) -> Result<u64, Wait> {
        let number = self.turn(now);
        if raise(&self.total, n, most).is_err() {
            let over = self.total.load(Acquire).saturating_add(n).saturating_sub(most).max(1);
            return Err(self.wait(over, number, now));
        }
        self.fill(number, n);
        Ok(number)
    }

    fn add(&self, n: u64, now: u64) {
        let number = self.turn(now);
        self.total.fetch_add(n, AcqRel);
        self.fill(number, n);
    }

    fn fill(&self, number: u64, n: u64) {
        if let Some(slot) = self.at(number) {
            slot.fetch_add(n, Release);
        }
    }

    fn give_back(&self, number: u64, n: u64) {
        let _turning = self.lock();
        if self.head.load(Acquire) - number <= SLOTS
            && let Some(slot) = self.at(number)
        {
            lower(slot, n);
            lower(&self.total, n);
        }
    }

    fn standing(&self, most: u64, now: u64) -> Standing {
        let head = self.turn(now);
        let total = self.total.load(Acquire);
        let newest = if total == 0 {
            None
        } else {
            (head - SLOTS..=head).rev().find(|number| self.at(*number).is_some_and(|slot| slot.load(Acquire) != 0))
        };
        let reset = newest.map_or(0, |number| self.leaves(number).saturating_sub(now));
        Standing { limit: most, remaining: most.saturating_sub(total), reset: Duration::from_micros(reset) }
    }
}

/// A bucket that fills steadily, written down as the one moment at which it would be full again (ITU-T I.371, "virtual
/// scheduling").
#[derive(Debug)]
struct Bucket {
    /// Nanoseconds in which the limit flows in.
    window: u64,
    /// When it is full again, in monotonic nanoseconds.
    full: AtomicU64,
}

impl Bucket {
    /// Nanoseconds in which so many flow in, where so many do in a window.
    fn time(&self, n: u64, most: u64) -> u64 {
        let time = (u128::from(n) * u128::from(self.window)).div_ceil(u128::from(most.max(1)));
        u64::try_from(time).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
    }

    /// When it would be full again, had so many been taken; or how long that has to wait.
    fn after(&self, full: u64, n: u64, most: u64, base: u64, burst: u64, now: u64) -> Result<u64, Wait> {
        let after = full.max(now).saturating_add(self.time(n, most));
        let early = after.saturating_sub(now.saturating_add(self.time(burst, base)));
        if early == 0 { Ok(after) } else { Err(Wait::Micros(early.div_ceil(1_000))) }
    }

    fn room(&self, n: u64, most: u64, base: u64, burst: u64, now: u64) -> Result<(), Wait> {
        self.after(self.full.load(Acquire), n, most, base, burst, now.saturating_mul(1_000)).map(drop)
    }

    fn take(&self, n: u64, most: u64, base: u64, burst: u64, now: u64) -> Result<u64, Wait> {
        let now = now.saturating_mul(1_000);
        let mut full = self.full.load(Acquire);
        loop {
            let after = self.after(full, n, most, base, burst, now)?;
            match self.full.compare_exchange_weak(full, after, AcqRel, Acquire) {
                Ok(_) => return Ok(after),
                Err(found) => full = found,
            }
        }
    }

    fn add(&self, n: u64, most: u64, now: u64) {
        let (now, time) = (now.saturating_mul(1_000), self.time(n, most));
        let _ = self.full.fetch_update(AcqRel, Acquire, |full| Some(full.max(now).saturating_add(time)));
    }

    /// `after`: when it would have been full again after that was taken. What has flowed in since is not given back: had
    /// nothing been taken, it might have flowed over.
    fn give_back(&self, after: u64, n: u64, most: u64, now: u64) {
        let missing = after.saturating_sub(now.saturating_mul(1_000));
        lower(&self.full, self.time(n, most).min(missing));
    }

    fn standing(&self, most: u64, burst: u64, now: u64) -> Standing {
        let now = now.saturating_mul(1_000);
        let missing = self.full.load(Acquire).saturating_sub(now);
        let free = self.time(burst, most).saturating_sub(missing);
        let remaining = u128::from(free) * u128::from(most) / u128::from(self.window.max(1));
        let remaining = u64::try_from(remaining).unwrap_or(u64::MAX).min(burst);
        Standing { limit: burst, remaining, reset: Duration::from_nanos(missing) }
    }
}

/// What was taken between two boundaries of the calendar.
#[derive(Debug)]
struct Fixed {
    per: Per,
    count: AtomicU64,
    /// Unix milliseconds.
    start: AtomicU64,
    end: AtomicU64,
    turning: Mutex<()>,
}

impl Default for Fixed {
    fn default() -> Self {
        Fixed {
            per: Per::Day,
            count: AtomicU64::new(0),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            turning: Mutex::new(()),
        }
    }
}

impl Fixed {
    /// Moves on to the window of this moment; gives where it begins. A clock that was put back forgives nothing: what was
    /// taken goes on to count in the window that it shows.
    fn turn(&self, zone: &TimeZone, now: u64) -> u64 {
        let start = self.start.load(Acquire);
        if (start..self.end.load(Acquire)).contains(&now) {
            return start;
        }
        let _turning = self.lock();
        let (start, end) = (self.start.load(Acquire), self.end.load(Acquire));
        if (start..end).contains(&now) {
            return start;
        }
        if now >= end {
            self.count.store(0, Release);
        }
        let (start, end) = window(self.per, zone, now);
        self.start.store(start, Release);
        self.end.store(end, Release);
        start
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, n: u64, most: u64, zone: &TimeZone, now: u64) -> Result<(), Wait> {
        self.turn(zone, now);
        let fits = self.count.load(Acquire).saturating_add(n) <= most;
        fits.then_some(()).ok_or_else(|| self.wait(now))
    }

    fn wait(&self, now: u64) -> Wait {
        Wait::Micros(self.end.load(Acquire).saturating_sub(now).max(1).saturating_mul(1_000))
    }

    fn take(&self, n: u64, most: u64, zone: &TimeZone, now: u64) -> Result<u64, Wait> {
        let start = self.turn(zone, now);
        raise(&self.count, n, most).map(|()| start).map_err(|()| self.wait(now))
    }

    fn add(&self, n: u64, zone: &TimeZone, now: u64) {
        self.turn(zone, now);
        self.count.fetch_add(n, AcqRel);
    }

    fn give_back(&self, start: u64, n: u64) {
        let _turning = self.lock();
        if self.start.load(Acquire) == start {
            lower(&self.count, n);
        }
    }

    fn standing(&self, most: u64, zone: &TimeZone, now: u64) -> Standing {
        self.turn(zone, now);
        let remaining = most.saturating_sub(self.count.load(Acquire));
        let reset = self.end.load(Acquire).saturating_sub(now);
        Standing { limit: most, remaining, reset: Duration::from_millis(reset) }
    }
}

/// Where the calendar's window around a moment begins and ends, in Unix milliseconds.
pub(super) fn window(per: Per, zone: &TimeZone, now: u64) -> (u64, u64) {
    let plain = |length: u64, offset: i64| {
        // Hours begin at full hours of the zone, which may be off those of UTC by a part of one.
        let offset = u64::try_from(offset.rem_euclid(3_600)).unwrap_or(0) * 1_000;
        let start = now.saturating_add(offset) / length * length;
        (start.saturating_sub(offset), start.saturating_sub(offset).saturating_add(length))
    };
    let moment = i64::try_from(now).ok().and_then(|now| Timestamp::from_millisecond(now).ok());
    match (per, moment) {
        (Per::Second, _) => plain(1_000, 0),
        (Per::Minute, _) => plain(60_000, 0),
        (Per::Hour, moment) => plain(3_600_000, moment.map_or(0, |now| i64::from(zone.to_offset(now).seconds()))),
        (Per::Day, moment) => moment.and_then(|now| day(zone, now)).unwrap_or_else(|| plain(86_400_000, 0)),
    }
}

/// The day of the zone's calendar around a moment.
fn day(zone: &TimeZone, now: Timestamp) -> Option<(u64, u64)> {
    let start = now.to_zoned(zone.clone()).start_of_day().ok()?;
    let end = start.date().checked_add(1.day()).ok()?.to_zoned(zone.clone()).ok()?;
    let millis = |moment: Timestamp| u64::try_from(moment.as_millisecond()).ok();
    Some((millis(start.timestamp())?, millis(end.timestamp())?))
}

/// Adds so much, where the sum is no more than that.
fn raise(count: &AtomicU64, n: u64, most: u64) -> Result<(), ()> {
    let sum = |now: u64| now.checked_add(n).filter(|sum| *sum <= most);
    count.fetch_update(AcqRel, Acquire, sum).map(drop).map_err(drop)
}

/// Takes so much away, down to nothing.
fn lower(count: &AtomicU64, n: u64) {
    let _ = count.fetch_update(AcqRel, Acquire, |now| Some(now.saturating_sub(n)));
}
