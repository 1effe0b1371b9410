//! What the policy said of each service: its last good answer, and its last failure. It outlives a script, so that
//! neither an error nor a reload takes a route away.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::reading::Said;
use super::tables::ServiceTable;
use crate::policy::Failure;
use crate::policy::verdicts::FunctionId;
use crate::routes::{LeftOut, Service, ServiceId};

#[derive(Debug, Default)]
pub struct Listeners {
    services: HashMap<ServiceId, Verdict>,
    /// The addresses that services did not get at the last sync.
    refused: BTreeSet<LeftOut>,
    /// All else that was left out.
    left_out: BTreeSet<LeftOut>,
}

#[derive(Debug, Default)]
pub struct Verdict {
    /// The service and the function of the last call.
    asked: Option<(Arc<Service>, FunctionId)>,
    /// None before the first good answer.
    pub said: Option<Said>,
    pub failure: Option<Failure>,
}

impl Listeners {
    pub fn get(&self, service: &Service) -> Option<&Verdict> {
        self.services.get(&service.id)
    }

    /// Whether the function has already been called for this service as it is.
    pub fn is_current(&self, service: &Arc<Service>, function: FunctionId) -> bool {
        let verdict = self.services.get(&service.id);
        verdict
            .and_then(|verdict| verdict.asked.as_ref())
            .is_some_and(|(known, id)| known == service && *id == function)
    }

    /// Records the result of a call. Returns whether it is news: a failure that was not known.
    pub fn record(
        &mut self,
        service: &Arc<Service>,
        function: FunctionId,
        result: Result<Said, Failure>,
    ) -> bool {
        let verdict = self.services.entry(service.id.clone()).or_default();
        verdict.asked = Some((Arc::clone(service), function));
        match result {
            Ok(said) => {
                verdict.said = Some(said);
                verdict.failure = None;
                false
            }
            Err(failure) => {
                let is_news = verdict.failure.as_ref() != Some(&failure);
                verdict.failure = Some(failure);
                is_news
            }
        }
    }

    /// Forgets all services but these, of which each has a verdict.
    pub fn retain(&mut self, services: &[Rc<ServiceTable>]) {
        if self.services.len() > services.len() {
            let ids = services.iter().map(|table| &table.service.id);
            let ids: HashSet<&ServiceId> = ids.collect();
            self.services.retain(|id, _| ids.contains(id));
        }
    }

    /// Takes the addresses that services did not get. Returns those that are news.
    pub fn refuse(&mut self, refused: BTreeSet<LeftOut>) -> Vec<LeftOut> {
        news(&mut self.refused, refused)
    }

    /// Takes all else that is left out. Returns what is news.
    pub fn leave_out(&mut self, left_out: BTreeSet<LeftOut>) -> Vec<LeftOut> {
        news(&mut self.left_out, left_out)
    }
}

/// Replaces a set. Returns what it did not have.
fn news(known: &mut BTreeSet<LeftOut>, now: BTreeSet<LeftOut>) -> Vec<LeftOut> {
    let news = now.difference(known).cloned().collect();
    *known = now;
    news
}
