//! The bundled policy, and a site that overrides a decision.

use super::*;

#[tokio::test]
async fn the_bundled_policy_makes_the_layout() {
    let mut site = Site::new(&[web("a"), web("b")]);
    site.world.script = None;
    Script::load(site.world.clone())
        .expect("it loads")
        .run()
        .await
        .expect("it runs");
    let keys = [
        "/backends/web/1/a00000000000 10.0.0.1:32768",
        "/backends/web/1/b00000000000 10.0.0.1:32768",
        "/backends/web/1/port 80",
        "/backends/web/1/port 80",
    ];
    assert_eq!(site.keys(), keys);
}

#[tokio::test]
async fn a_site_overrides_one_decision_and_the_others_see_it() {
    let site = Site::new(&[web("a")]);
    let script = "local register = require 'register'
        register.ttl = 30
        register.prefix = '/x'
        function register.service(container, port) return container.labels.team end
        return register";
    site.run(script).await.expect("it runs");
    assert_eq!(
        site.keys(),
        ["/x/red/1/a00000000000 10.0.0.1:32768", "/x/red/1/port 80"]
    );
    let wanted = site.wanted.borrow().clone().expect("wanted");
    let mut entries = wanted.claims.iter().flat_map(|claim| claim.entries.iter());
    assert!(entries.all(|entry| entry.ttl == 30));
}
