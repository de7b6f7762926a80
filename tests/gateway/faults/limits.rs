//! G-7: callers that want ten times as much as they may.

use super::scaled;
use crate::races::pressed;

#[test]
fn g_07_no_second_holds_more_than_the_limit_at_ten_times_the_rate() {
    let seconds = scaled(3);
    for (name, limits) in [
        ("requests", "[{ of: requests, most: 20, per: second }]"),
        // Each call is counted with 18 tokens when it is over, and with 12 before that.
        ("tokens", "[{ of: tokens, most: 400, per: second }, { of: requests, most: 1000, per: minute }]"),
    ] {
        let (admitted, fullest) = pressed(limits, 20, seconds);
        println!("G-7: {name}: {admitted} calls in {seconds} s, the fullest second has {fullest}");
        assert!(admitted > 20 && fullest <= if name == "requests" { 20 } else { 400 / 12 }, "{name}: {fullest}");
    }
}
