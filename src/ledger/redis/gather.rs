//! Questions that are asked together: whoever asks while others are being answered is answered in
//! the next turn, with everybody else who came meanwhile.
//!
//! One transaction in Postgres then serves all of them, and nobody is told to work for the others:
//! the first in the line does. Not here: what is asked (`leasing`, `decide`).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, oneshot};

use crate::store::{StoreError, StoreErrorKind};

/// The most questions of one turn.
const TURN_MAX: usize = 256;

/// More lines than are stood in at once; empty ones are forgotten then.
const LINES: usize = 4_096;

/// Answers questions about one thing.
pub(super) trait Answers<K, Q, A> {
    /// As many answers as questions, in their order.
    fn answer(
        &self,
        about: &K,
        questions: &[&Q],
    ) -> impl Future<Output = Result<Vec<A>, StoreError>> + Send;
}

/// The lines of those who ask, one for each thing that is asked about.
pub(super) struct Gather<K, Q, A> {
    lines: std::sync::Mutex<HashMap<K, Arc<Line<Q, A>>>>,
}

struct Line<Q, A> {
    /// Who has come and is not answered yet.
    waiting: std::sync::Mutex<Vec<Waiting<Q, A>>>,
    /// Whoever has it asks for everybody in the line.
    asking: Mutex<()>,
}

struct Waiting<Q, A> {
    question: Q,
    reply: oneshot::Sender<Result<A, StoreError>>,
}

impl<K, Q, A> Default for Gather<K, Q, A> {
    fn default() -> Self {
        Self { lines: std::sync::Mutex::default() }
    }
}

impl<Q, A> Default for Line<Q, A> {
    fn default() -> Self {
        Self { waiting: std::sync::Mutex::default(), asking: Mutex::default() }
    }
}

impl<K: Hash + Eq + Clone, Q: Clone, A> Gather<K, Q, A> {
    /// Asks, together with whoever else does.
    pub(super) async fn ask(
        &self,
        about: &K,
        question: Q,
        answers: &impl Answers<K, Q, A>,
    ) -> Result<A, StoreError> {
        let line = self.line(about);
        loop {
            let (reply, mut answer) = oneshot::channel();
            line.join(Waiting { question: question.clone(), reply });
            loop {
                let _asking = line.asking.lock().await;
                match answer.try_recv() {
                    Ok(answer) => return answer,
                    Err(oneshot::error::TryRecvError::Empty) => line.ask(about, answers).await,
                    // Whoever asked was given up in the middle of it.
                    Err(oneshot::error::TryRecvError::Closed) => break,
                }
            }
        }
    }

    fn line(&self, about: &K) -> Arc<Line<Q, A>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LINES {
            lines.retain(|_, line| Arc::strong_count(line) > 1);
        }
        Arc::clone(lines.entry(about.clone()).or_default())
    }
}

impl<Q, A> Line<Q, A> {
    fn join(&self, waiting: Waiting<Q, A>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
    }

    /// The next ones who still wait.
    fn next(&self) -> Vec<Waiting<Q, A>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| !one.reply.is_closed());
        let count = waiting.len().min(TURN_MAX);
        waiting.drain(..count).collect()
    }

    async fn ask<K>(&self, about: &K, answers: &impl Answers<K, Q, A>) {
        let asking = self.next();
        let questions = asking.iter().map(|one| &one.question).collect::<Vec<_>>();
        // Who has gone away meanwhile misses the answer.
        match answers.answer(about, &questions).await {
            Ok(found) => {
                for (one, answer) in asking.into_iter().zip(found) {
                    drop(one.reply.send(Ok(answer)));
                }
            }
            // One of them cannot be answered; it is not the others' fault.
            Err(error) if error.kind == StoreErrorKind::Corrupt && asking.len() > 1 => {
                for one in asking {
                    let answer = answers.answer(about, &[&one.question]).await;
                    let only = |answer: Vec<A>| answer.into_iter().next().ok_or_else(no_answer);
                    drop(one.reply.send(answer.and_then(only)));
                }
            }
            Err(error) => {
                let (kind, operation, why) = (error.kind, error.operation, Arc::new(error));
                for one in asking {
                    let error = StoreError::new(kind, operation, Arc::clone(&why));
                    drop(one.reply.send(Err(error)));
                }
            }
        }
    }
}

fn no_answer() -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "ask together", "a question without an answer")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    /// Doubles numbers, a turn at a time, and cannot read 13.
    #[derive(Default)]
    struct Doubles {
        turns: AtomicUsize,
    }

    impl Answers<u8, i32, i32> for Doubles {
        async fn answer(&self, _: &u8, questions: &[&i32]) -> Result<Vec<i32>, StoreError> {
            self.turns.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if questions.contains(&&13) {
                return Err(StoreError::new(StoreErrorKind::Corrupt, "double", "13"));
            }
            Ok(questions.iter().map(|number| **number * 2).collect())
        }
    }

    async fn ask_all(numbers: std::ops::Range<i32>) -> (Vec<Result<i32, StoreErrorKind>>, usize) {
        let (gather, doubles) = (Arc::new(Gather::default()), Arc::new(Doubles::default()));
        let mut asking = JoinSet::new();
        for number in numbers {
            let (gather, doubles) = (Arc::clone(&gather), Arc::clone(&doubles));
            asking.spawn(async move {
                let answer = gather.ask(&0, number, &*doubles).await;
                (number, answer.map_err(|error| error.kind))
            });
        }
        let mut answers = asking.join_all().await;
        answers.sort_by_key(|(number, _)| *number);
        let answers = answers.into_iter().map(|(_, answer)| answer).collect();
        (answers, doubles.turns.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_is_answered_in_few_turns() {
        let (answers, turns) = ask_all(100..200).await;
        assert_eq!(answers, (100..200).map(|number| Ok(number * 2)).collect::<Vec<_>>());
        assert!(turns <= 2, "{turns}");
    }

    #[tokio::test]
    async fn one_question_that_cannot_be_answered_takes_no_other_with_it() {
        let (answers, _) = ask_all(10..20).await;
        let wanted =
            |number| if number == 13 { Err(StoreErrorKind::Corrupt) } else { Ok(number * 2) };
        assert_eq!(answers, (10..20).map(wanted).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn who_is_given_up_while_asking_for_others_leaves_them_to_ask_again() {
        let gather = Arc::new(Gather::<u8, i32, i32>::default());
        let doubles = Doubles::default();
        {
            let (first, second) = (gather.ask(&0, 1, &doubles), gather.ask(&0, 2, &doubles));
            tokio::pin!(first, second);
            // Both are in the line, and the first asks for both.
            assert!(futures::poll!(&mut first).is_pending());
            assert!(futures::poll!(&mut second).is_pending());
        }
        assert_eq!(gather.ask(&0, 3, &doubles).await.unwrap(), 6);
    }
}
