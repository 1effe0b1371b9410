//! Removals of keys that are not believed at once.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_mass_removal_waits_for_a_second_listing() {
    // By the watch.
    let (fake, mut running) = running("abcdefghij").await;
    sleep(SECOND).await;
    fake.change(&["-a", "-b", "-c", "-d", "-e"]);
    assert_eq!(running.next().await, ("fghij".to_owned(), Duration::ZERO));
    fake.change(&["+0", "+1", "+2", "+3", "+4"]);
    assert_eq!(running.next().await.0, "01234fghij");
    sleep(SECOND).await;
    fake.change(&["-0", "-1", "-2", "-3", "-4", "-f"]);
    sleep(SECOND).await;
    // Changes go on meanwhile, and no key is taken away.
    fake.change(&["+x", "-g"]);
    assert_eq!(
        running.next().await,
        ("01234fghijx".to_owned(), Duration::ZERO)
    );
    let (keys, after) = running.next().await;
    assert_eq!((&*keys, after), ("hijx", 4 * SECOND));
    assert_eq!(fake.listings(), 2);

    // By a listing, of a store that was restored empty; it is away when it should confirm that.
    fake.change(&["+a", "+b", "+c", "+d", "+e", "+f"]);
    running.next().await;
    fake.go_away();
    sleep(SECOND).await;
    fake.inner().keys = Keys::default();
    fake.come_back();
    assert!(running.is_quiet(4 * SECOND).await);
    fake.go_away();
    assert!(running.is_quiet(RESYNC).await);
    fake.come_back();
    assert_eq!(running.next().await.0, "");
}

#[tokio::test(start_paused = true)]
async fn keys_that_come_back_were_never_gone() {
    let (fake, mut running) = running("abcdefghij").await;
    let gone = "abcdef".chars().map(|letter| format!("-{letter}"));
    let gone: Vec<String> = gone.collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    fake.change(&gone);
    assert!(running.is_quiet(4 * SECOND).await);
    fake.change(&["+a", "+b", "+c", "+d", "+e", "+f"]);
    assert_eq!(running.next().await.0, "abcdefghij");
    assert!(running.is_quiet(10 * SECOND).await);
    assert_eq!(fake.listings(), 1);
    fake.change(&gone);
    let (keys, after) = running.next().await;
    assert_eq!((&*keys, after), ("ghij", 5 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_with_few_of_its_keys_is_asked_twice() {
    for (before, removed, left) in [("a", "a", ""), ("ab", "ab", ""), ("abc", "bc", "a")] {
        let (fake, mut running) = running(before).await;
        sleep(SECOND).await;
        fake.go_away();
        let removed: Vec<String> = removed.chars().map(|letter| format!("-{letter}")).collect();
        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        fake.change_silently(&removed);
        fake.come_back();
        let (keys, after) = running.next().await;
        assert_eq!(keys, left);
        assert!(
            (5 * SECOND..=8 * SECOND).contains(&after),
            "{before}: {after:?}"
        );
        // The first one, the one after the loss, and the one that confirms it.
        assert_eq!(fake.listings(), 3, "{before}");
        // The end of a few keys is believed if a watch tells of it, or if a listing lacks at most half of them.
        sleep(SECOND).await;
        fake.change(&["+x", "+y"]);
        running.next().await;
        sleep(SECOND).await;
        fake.change(&["-x", "-y"]);
        assert_eq!(running.next().await, (left.to_owned(), Duration::ZERO));
    }
    let (fake, mut running) = running("ab").await;
    fake.go_away();
    fake.change_silently(&["-a"]);
    fake.come_back();
    let (keys, after) = running.next().await;
    assert_eq!(keys, "b");
    assert!(after <= 2 * SECOND, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn few_keys_that_are_put_again_after_a_loss_were_never_gone() {
    let (fake, mut running) = running("ab").await;
    sleep(MS).await;
    fake.go_away();
    fake.change_silently(&["-a", "-b"]);
    fake.come_back();
    assert!(running.is_quiet(3 * SECOND).await);
    fake.change(&["+a"]);
    assert_eq!(running.next().await.0, "ab");
    sleep(SECOND / 2).await;
    fake.change(&["+b", "+c"]);
    assert_eq!(running.next().await.0, "abc");
    assert!(running.is_quiet(10 * SECOND).await);
    assert_eq!(fake.listings(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_listing_after_a_loss_confirms_no_removal() {
    let (fake, mut running) = running("ab").await;
    sleep(MS).await;
    for _ in 0..3 {
        fake.go_away();
        fake.inner().keys = Keys::default();
        fake.come_back();
        // Longer than a doubt, from the first loss on.
        assert!(running.is_quiet(4 * SECOND).await);
    }
    let (keys, after) = running.next().await;
    assert_eq!(keys, "");
    assert!(after <= 4 * SECOND, "{after:?}");
}
