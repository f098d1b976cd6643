//! The search: every state that a model can reach, breadth first, so that the first state that
//! breaks a promise is reached by a shortest list of steps.
//!
//! States are kept whole and compared whole: two states with one hash stay two states. Not here:
//! what a state is, and what must hold in it.

use std::fmt::{Debug, Display};
use std::hash::{Hash, Hasher};

/// A set of states, the steps between them, and what must hold.
pub(super) trait Model {
    type State: Clone + Eq + Hash;
    type Step: Display;
    type Broken: Debug;

    fn start(&self) -> Self::State;

    /// Every step that is possible in a state, in a fixed order, with the state after it.
    fn next(&self, state: &Self::State, found: &mut Vec<(Self::Step, Self::State)>);

    /// What does not hold in a state.
    fn broken(&self, state: &Self::State) -> Option<Self::Broken>;
}

/// What a search found.
pub(super) struct Report<B> {
    /// States looked at: all that can be reached, or all up to the one that breaks a promise.
    pub(super) states: usize,
    /// Steps to the last state looked at.
    pub(super) depth: usize,
    /// What is broken, and a shortest way there.
    pub(super) broken: Option<(B, Vec<String>)>,
    /// Whether the search stopped because there were more states than it may look at.
    pub(super) cut_short: bool,
}

impl<B: Debug> Report<B> {
    /// The shortest way to what is broken, as lines to read.
    pub(super) fn story(&self) -> String {
        let Some((broken, steps)) = &self.broken else {
            return format!("nothing broken in {} states", self.states);
        };
        let mut story = format!("{broken:?} after {} steps:", steps.len());
        for (number, step) in steps.iter().enumerate() {
            story.push_str(&format!("\n  {:>2}. {step}", number + 1));
        }
        story
    }
}

/// A multiplying hash over words. The states come from us, so nobody chooses colliding ones, and
/// tests are compiled without optimisation, where the standard hash would take half of the time.
struct Mixer(u64);

impl Mixer {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(Self::FACTOR);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 31)
    }
}

fn hash_of(state: &impl Hash) -> u64 {
    let mut mixer = Mixer(Mixer::FACTOR);
    state.hash(&mut mixer);
    mixer.finish()
}

/// No state.
const FREE: u32 = u32::MAX;

/// The states seen so far, in the order in which they were found.
struct Seen<S> {
    states: Vec<S>,
    /// The state before each; the step between them is found again when it has to be told.
    before: Vec<u32>,
    /// Indices of states by hash, with room to probe.
    places: Vec<u32>,
}

impl<S: Eq + Hash> Seen<S> {
    fn new(start: S) -> Self {
        let places = vec![FREE; 1 << 12];
        let mut seen = Self { states: Vec::new(), before: Vec::new(), places };
        seen.add(start, 0);
        seen
    }

    /// Where a state is, or would be.
    fn place(&self, state: &S) -> Result<usize, usize> {
        let mask = self.places.len() - 1;
        let mut at = usize::try_from(hash_of(state) & u64::try_from(mask).unwrap()).unwrap();
        loop {
            match self.places[at] {
                FREE => return Err(at),
                held if &self.states[usize::try_from(held).unwrap()] == state => return Ok(at),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn add(&mut self, state: S, before: u32) {
        let Err(free) = self.place(&state) else { return };
        self.places[free] = u32::try_from(self.states.len()).unwrap();
        self.states.push(state);
        self.before.push(before);
        if self.states.len() * 2 > self.places.len() {
            self.places = vec![FREE; self.places.len() * 2];
            for index in 0..self.states.len() {
                let Err(free) = self.place(&self.states[index]) else { continue };
                self.places[free] = u32::try_from(index).unwrap();
            }
        }
    }

    fn way_to<M: Model<State = S>>(&self, model: &M, mut index: usize) -> Vec<String> {
        let (mut way, mut found) = (Vec::new(), Vec::new());
        while index > 0 {
            let before = usize::try_from(self.before[index]).unwrap();
            model.next(&self.states[before], &mut found);
            let taken = found.drain(..).find(|(_, after)| after == &self.states[index]);
            way.push(taken.unwrap().0.to_string());
            index = before;
        }
        way.reverse();
        way
    }
}

/// Looks at every reachable state, at most `most` of them, until one breaks a promise.
pub(super) fn explore<M: Model>(model: &M, most: usize) -> Report<M::Broken> {
    let mut seen = Seen::new(model.start());
    let mut found = Vec::new();
    let mut index = 0;
    while index < seen.states.len() && index < most {
        let state = seen.states[index].clone();
        if let Some(broken) = model.broken(&state) {
            let way = seen.way_to(model, index);
            let (states, depth) = (index + 1, way.len());
            return Report { states, depth, broken: Some((broken, way)), cut_short: false };
        }
        model.next(&state, &mut found);
        let before = u32::try_from(index).unwrap();
        found.drain(..).for_each(|(_, state)| seen.add(state, before));
        index += 1;
    }
    let depth = seen.way_to(model, index - 1).len();
    Report { states: index, depth, broken: None, cut_short: index < seen.states.len() }
}

/// Two jugs of three and five, to try the search on: four in the larger one takes six steps.
struct Jugs;

impl Model for Jugs {
    type State = (u8, u8);
    type Step = &'static str;
    type Broken = ();

    fn start(&self) -> (u8, u8) {
        (0, 0)
    }

    fn next(&self, &(three, five): &(u8, u8), found: &mut Vec<(&'static str, (u8, u8))>) {
        let (to_five, to_three) = (three.min(5 - five), five.min(3 - three));
        found.push(("fill three", (3, five)));
        found.push(("fill five", (three, 5)));
        found.push(("empty three", (0, five)));
        found.push(("empty five", (three, 0)));
        found.push(("three into five", (three - to_five, five + to_five)));
        found.push(("five into three", (three + to_three, five - to_three)));
    }

    fn broken(&self, &(_, five): &(u8, u8)) -> Option<()> {
        (five == 4).then_some(())
    }
}

#[test]
fn the_search_finds_a_shortest_way_and_says_when_it_stopped_early() {
    let report = explore(&Jugs, 1_000);
    let (_, way) = report.broken.unwrap();
    assert_eq!(way[..3], ["fill five", "five into three", "empty three"]);
    assert_eq!((way.len(), report.depth, report.cut_short), (6, 6, false));
    let stopped = explore(&Jugs, 5);
    assert!(stopped.broken.is_none() && stopped.cut_short && stopped.states == 5);
}
