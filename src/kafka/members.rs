//! Whether a consumer group has a member of a name.
//!
//! A group and a `group.instance.id` flow in, an answer flows out. Brokers make the id of a static member of its instance id
//! and a UUID; the API of older brokers, which is all that the client's binding has, says no more of it.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use super::group::GroupConsumer;

/// How long the brokers may take to answer: all are asked, as each knows the groups that it coordinates.
pub const MEMBERS_TIMEOUT: Duration = Duration::from_secs(3);
/// Characters of a UUID, as brokers append it.
const UUID_CHARACTERS: usize = 36;

/// Whether `group` has a static member `instance`; a group that nobody knows has none. `consumer` need not have joined it;
/// blocks for up to [`MEMBERS_TIMEOUT`].
///
/// # Errors
/// A broker does not answer: the group may be one that it coordinates.
pub fn has_static_member(
    consumer: &GroupConsumer,
    group: &str,
    instance: &str,
) -> Result<bool, KafkaError> {
    let found = consumer.fetch_group_list(Some(group), MEMBERS_TIMEOUT)?;
    let members = found.groups().iter().flat_map(|found| found.members());
    Ok(members
        .into_iter()
        .any(|member| is_of_instance(member.id(), instance)))
}

/// Whether a broker has made `member_id` for a static member `instance`.
fn is_of_instance(member_id: &str, instance: &str) -> bool {
    member_id
        .strip_prefix(instance)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|uuid| uuid.len() == UUID_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_by_its_instance_and_not_by_one_that_begins_like_it() {
        let uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        assert!(is_of_instance(&format!("a-{uuid}"), "a"));
        assert!(is_of_instance(&format!("a-b-{uuid}"), "a-b"));
        assert!(!is_of_instance(&format!("a-b-{uuid}"), "a"));
        assert!(!is_of_instance(&format!("ab-{uuid}"), "a"));
        assert!(!is_of_instance("a", "a"));
    }
}
