//! The protocol as something to search: its steps, and the promises to watch or a state to find.
//!
//! Not here: bounds (`cases`) and wrong variants (`wrong`).

use super::postgres::may_commit;
use super::promise::{Broken, broken};
use super::search::Model;
use super::setup::{Flaw, Setup};
use super::step::Step;
use super::world::World;
use super::{failure, postgres, redis};

pub(super) const EVERYTHING: [Broken; 6] = [
    Broken::Overspent,
    Broken::Books,
    Broken::Lost,
    Broken::Changed,
    Broken::FalselyRejected,
    Broken::Stranded,
];

/// A setup, and the promises to watch.
pub(super) struct Protocol {
    pub(super) setup: Setup,
    pub(super) watched: Vec<Broken>,
}

impl Model for Protocol {
    type State = World;
    type Step = Step;
    type Broken = Broken;

    fn start(&self) -> World {
        World::new()
    }

    fn next(&self, world: &World, found: &mut Vec<(Step, World)>) {
        for index in 0..world.nodes().len() {
            redis::steps(&self.setup, world, index, found);
            failure::steps(&self.setup, world, index, found);
        }
        postgres::steps(&self.setup, world, found);
        failure::midnight(&self.setup, world, found);
        if !self.setup.has(Flaw::TrimBeforeCommit) {
            // A batch that can no longer commit is as good as gone.
            for (_, world) in found {
                let batch = world.batch;
                world.batch = batch.filter(|batch| may_commit(&self.setup, world, *batch));
            }
        }
    }

    fn broken(&self, world: &World) -> Option<Broken> {
        broken(&self.setup, world, &self.watched)
    }
}

/// The protocol, and a state that it has to be able to reach: what never happens proves nothing.
pub(super) struct Reach {
    pub(super) protocol: Protocol,
    pub(super) goal: fn(&World) -> bool,
}

impl Model for Reach {
    type State = World;
    type Step = Step;
    type Broken = ();

    fn start(&self) -> World {
        self.protocol.start()
    }

    fn next(&self, world: &World, found: &mut Vec<(Step, World)>) {
        self.protocol.next(world, found);
    }

    fn broken(&self, world: &World) -> Option<()> {
        (self.goal)(world).then_some(())
    }
}
