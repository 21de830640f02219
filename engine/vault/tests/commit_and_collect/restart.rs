//! A node's crash, with or without a PUT under way, and what it does first when it is back.

use crate::rules::Breach;
use crate::sets::Set;
use crate::state::{Late, Node, NodeAt, State};
use crate::step::{Steps, What, session};
use crate::writer::Writer;

pub(crate) fn crash(writer: &Writer<'_>, out: &mut Steps) {
    let Node { at, capture, attempt, crashes, .. } = writer.node;
    if crashes == 0
        || matches!(at, NodeAt::LookForCopy | NodeAt::ReadCollection | NodeAt::Restart)
        || at.is_before_session()
    {
        return;
    }
    let node = Node { at: NodeAt::Restart, capture, attempt, crashes: crashes - 1, ..Node::default() };
    let mut down = writer.remembering(node);
    writer.push("crashes", What::Nothing, down, out);
    if let Some(late) = under_way(writer, &mut down)
        && down.leave_behind(late)
    {
        writer.push("crashes with its PUT under way", What::Nothing, down, out);
    }
}

/// The PUT that may land after the sender's death.
fn under_way(writer: &Writer<'_>, down: &mut State) -> Option<Late> {
    let points = &writer.facts().points;
    match writer.node.at {
        NodeAt::Open | NodeAt::OpenLast => Some(Late::Open(writer.session)),
        NodeAt::PutPack => {
            let name = writer.state.free_pack();
            down.store.put_pack(name, writer.node.missing);
            down.store.packs = down.store.packs.without(name);
            Some(Late::Pack(Set::of(&[name])))
        }
        NodeAt::PutIndex => Some(Late::SessionIndex(writer.session, writer.node.uploaded)),
        NodeAt::PutPoint => Some(Late::Points(Set::of(&points[..1]))),
        NodeAt::PutSecondPoint => Some(Late::Points(Set::of(&points[1..]))),
        NodeAt::End => Some(Late::Ended(writer.session)),
        _ => None,
    }
}

/// The session may have a PUT under way, so it must not look as if it had ended. It may even have been
/// acknowledged, if the crash came before the node wrote that down: a fence does no harm to a point that is
/// seen.
pub(crate) fn come_back(writer: &Writer<'_>, out: &mut Steps) {
    let mut next = writer.remembering(writer.next_attempt());
    let what = session(writer.session);
    if writer.world.breaks(Breach::CrashedSessionLeftOpen) {
        writer.push("is back, and leaves alone its session", what, next, out);
    } else if writer.world.breaks(Breach::CrashedSessionEnded) {
        next.store.mark_ended(writer.session);
        writer.push("is back, and marks as ended its session", what, next, out);
    } else {
        next.store.fences = next.store.fences.with(writer.session);
        writer.push("is back, and PUTs a fence for its own session", what, next, out);
    }
}
