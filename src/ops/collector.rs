//! Collectors of metrics, for each role's registry.

use prometheus::Registry;
use prometheus::core::Collector;

/// Registers a collector. It cannot fail, because the names and labels are constants, and each name is used once.
pub fn add<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("a sound definition");
    registry
        .register(Box::new(collector.clone()))
        .expect("a name of its own");
    collector
}
