//! Records to measure with: the events of an auction site, flat and nested.

/// A generator good enough for corpora: SplitMix64, one line of arithmetic, the same on every machine.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn letters(&mut self, count: u64) -> String {
        (0..count).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    /// Prices over six decades, as auctions have them: a third is above a million.
    fn price(&mut self) -> u64 {
        (10f64.powf(self.below(6_000) as f64 / 1_000.0 + 1.85)) as u64
    }
}

const CHANNELS: [&str; 5] = ["Google", "Facebook", "Baidu", "Apple", "channel-8291"];

/// One object per event: 92 bids, 6 auctions and 2 persons of a hundred, 280 bytes in the mean.
pub fn flat(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| event(random, n as u64).into_bytes()).collect()
}

fn event(random: &mut Random, n: u64) -> String {
    let time = 1_436_918_400_000 + n;
    match n % 50 {
        0 => format!(
            r#"{{"id":{},"name":"{} {}","email_address":"{}@{}.com","credit_card":"{:04} {:04} {:04} {:04}","city":"San Francisco","state":"CA","date_time":{time},"extra":"{}"}}"#,
            1000 + n,
            random.letters(6),
            random.letters(8),
            random.letters(7),
            random.letters(6),
            random.below(10_000),
            random.below(10_000),
            random.below(10_000),
            random.below(10_000),
            random.letters(70)
        ),
        1..=3 => format!(
            r#"{{"id":{},"item_name":"{}","description":"{}","initial_bid":{},"reserve":{},"date_time":{time},"expires":{},"seller":{},"category":{},"extra":"{}"}}"#,
            1000 + n,
            random.letters(16),
            random.letters(60),
            random.price(),
            random.price(),
            time + random.below(100_000),
            1000 + random.below(1000),
            10 + random.below(5),
            random.letters(60)
        ),
        _ => format!(
            r#"{{"auction":{},"bidder":{},"price":{},"channel":"{}","url":"https://www.nexmark.com/{}/item.htm?query=1&channel_id={}","date_time":{time},"extra":"{}"}}"#,
            1000 + random.below(5_000),
            1000 + random.below(10_000),
            random.price(),
            random.pick(&CHANNELS),
            random.letters(20),
            random.below(1 << 30),
            random.letters(75)
        ),
    }
}

/// One object of objects and arrays per event, 874 bytes in the mean; what programs read stands last.
pub fn nested(random: &mut Random, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| wide(random, n as u64).into_bytes()).collect()
}

fn wide(random: &mut Random, n: u64) -> String {
    let item = |random: &mut Random| {
        format!(
            r#"{{"sku":"{}","count":{},"price":{}.{:02},"tags":["{}","{}"]}}"#,
            random.letters(10),
            1 + random.below(9),
            random.below(500),
            random.below(100),
            random.letters(5),
            random.letters(6)
        )
    };
    let items: Vec<String> = (0..4).map(|_| item(random)).collect();
    format!(
        r#"{{"meta":{{"id":"{}","host":"{}","trace":{{"id":"{}","span":"{}","sampled":true}}}},"user":{{"id":{},"name":"{} {}","address":{{"street":"{} 12","city":"{}","zip":"{:05}","geo":{{"lat":{}.{:06},"lon":-{}.{:06}}}}},"flags":[true,false,null]}},"items":[{}],"agent":"Mozilla/5.0 ({}) \"{}\"","auction":{},"bidder":{},"price":{},"channel":"{}","url":"https://www.nexmark.com/{}/item.htm","date_time":{},"extra":"{}"}}"#,
        random.letters(24),
        random.letters(12),
        random.letters(32),
        random.letters(16),
        random.below(1 << 40),
        random.letters(6),
        random.letters(8),
        random.letters(10),
        random.letters(8),
        random.below(100_000),
        random.below(90),
        random.below(1_000_000),
        random.below(180),
        random.below(1_000_000),
        items.join(","),
        random.letters(20),
        random.letters(12),
        1000 + random.below(5_000),
        1000 + random.below(10_000),
        random.price(),
        random.pick(&CHANNELS),
        random.letters(20),
        1_436_918_400_000 + n,
        random.letters(75)
    )
}
