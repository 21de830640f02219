//! A node that captures: opens a session, finds out what is present, uploads the rest, commits,
//! acknowledges; starts over when it was fenced. What it does after a crash stands in `restart`. Being
//! asleep is not taking the next step.

use crate::restart;
use crate::rules::{Breach, World};
use crate::scene::{ChoiceFacts, SessionFacts};
use crate::sets::{Chunk, Id, IndexSlot, Pack, Point, Session, Set};
use crate::state::{Late, Node, NodeAt, State};
use crate::step::{Actor, Steps, What, pack, session};

/// One node in one state, with the session of its current attempt.
pub(crate) struct Writer<'w> {
    pub(crate) world: &'w World,
    pub(crate) state: &'w State,
    pub(crate) number: usize,
    pub(crate) node: Node,
    pub(crate) session: Session,
}

pub(crate) fn steps(world: &World, state: &State, number: usize, out: &mut Steps) {
    let node = state.nodes[number];
    if node.at == NodeAt::Done {
        return;
    }
    let session = world.scene.nodes[number].captures[usize::from(node.capture)][usize::from(node.attempt)];
    let writer = Writer { world, state, number, node, session };
    writer.step(out);
    restart::crash(&writer, out);
}

impl Writer<'_> {
    fn step(&self, out: &mut Steps) {
        match self.node.at {
            NodeAt::LookForCopy => self.look_for_copy(out),
            NodeAt::ReadCollection => self.read_collection(out),
            NodeAt::ReadLayoutFirst => self.read_layout_first(out),
            NodeAt::ListIndexFirst => self.list_index_first(out),
            NodeAt::OpenLast => self.open_last(out),
            NodeAt::ListGcLast => self.list_gc_last(out),
            NodeAt::Open => self.open(out),
            NodeAt::ReadLayout => self.read_layout(out),
            NodeAt::ListGc => self.list_gc(out),
            NodeAt::ListIndex => self.list_index(out),
            NodeAt::PutPack => self.put_pack(out),
            NodeAt::PutIndex => self.put_index(out),
            NodeAt::PutPoint => self.put_point(0, out),
            NodeAt::PutSecondPoint => self.put_point(1, out),
            NodeAt::GetFence => self.get_fence(out),
            NodeAt::ListGcAgain => self.list_gc_again(out),
            NodeAt::End => self.end(out),
            NodeAt::Restart => restart::come_back(self, out),
            NodeAt::Done => {}
        }
    }

    /// The world after a step, with the node further on.
    fn then(&self, at: NodeAt) -> State {
        self.remembering(Node { at, ..self.node })
    }

    pub(crate) fn remembering(&self, node: Node) -> State {
        let mut next = *self.state;
        next.nodes[self.number] = node;
        next
    }

    pub(crate) fn push(&self, does: &'static str, what: What, next: State, out: &mut Steps) {
        out.push(Actor::Node(self.number), does, what, next);
    }

    pub(crate) fn facts(&self) -> &SessionFacts {
        &self.world.scene.sessions[self.session.number()]
    }

    fn choice(&self) -> &ChoiceFacts {
        &self.facts().choices[usize::from(self.state.store.choice[self.session.number()])]
    }

    /// A copy that is there and settled is passed over, whoever has put it. For one that may yet be decided against it waits.
    fn look_for_copy(&self, out: &mut Steps) {
        let view = self.world.view(&self.state.store);
        let there: Vec<Point> =
            self.world.scene.copies().iter().filter(|point| view.counts(*point)).collect();
        let any = self.world.breaks(Breach::UnsettledCopyPassedOver);
        match there.iter().find(|point| any || view.settled(**point)) {
            Some(found) => {
                let mut next = self.remembering(Node::default());
                next.found = next.found.with(*found);
                self.push("finds the point there:", What::Points(Set::of(&[*found])), next, out);
            }
            None if there.is_empty() => {
                let next = self.then(self.world.scene.opening());
                self.push("does not find the point there", What::Nothing, next, out);
            }
            None => {}
        }
    }

    fn read_collection(&self, out: &mut Steps) {
        let mut next = self.then(NodeAt::Open);
        next.store.opened_in[self.session.number()] = self.state.store.newest_collection();
        if self.state.damage.mended {
            next.damage.since = next.damage.since.with(self.session);
        }
        self.push(
            "lists gc/, to write the newest collection into its session",
            session(self.session),
            next,
            out,
        );
        if self.world.scene.reading_first && !self.state.store.has_damaged_gc() {
            let store = &self.state.store;
            let (listed, vouched, names_lost) = (store.doomed(), store.vouched(), store.names_lost());
            let at = NodeAt::ReadLayoutFirst;
            next.nodes[self.number] = Node { at, listed, vouched, names_lost, ..self.node };
            self.push("lists gc/, to read before it opens its session", What::Nothing, next, out);
        }
    }

    /// On which point it will build, before its session is there.
    fn read_layout_first(&self, out: &mut Steps) {
        for (number, choice) in self.facts().choices.iter().enumerate() {
            if choice.pin.is_some_and(|pin| !self.may_rely_on(pin)) {
                continue;
            }
            let mut next = self.then(NodeAt::ListIndexFirst);
            next.store.choice[self.session.number()] = number as u8;
            let pins = choice.pin.map_or(Set::EMPTY, |pin| Set::of(&[pin]));
            self.push("reads the layout first, and will pin", What::Points(pins), next, out);
        }
    }

    fn list_index_first(&self, out: &mut Steps) {
        for missing in self.missing_beside(self.trusted() - self.node.listed) {
            let forgotten = Node { listed: Set::EMPTY, vouched: Set::EMPTY, names_lost: false, ..self.node };
            let next = self.remembering(Node { at: NodeAt::OpenLast, missing, ..forgotten });
            self.push("lists index/ first; it lacks", What::Chunks(missing), next, out);
        }
    }

    fn open_last(&self, out: &mut Steps) {
        let mut next = self.then(NodeAt::ListGcLast);
        next.store.open = next.store.open.with(self.session);
        self.push("PUTs its session last:", session(self.session), next, out);
    }

    /// What it has read is as good as read now: what goes in the next collection waits for this session, and what went in this one
    /// was announced when it began to read.
    fn list_gc_last(&self, out: &mut Steps) {
        let store = &self.state.store;
        let began = store.newest_collection() != store.opened_in[self.session.number()];
        let is_other = began || store.has_damaged_gc();
        if is_other && !self.world.breaks(Breach::ReadFirstNotChecked) {
            return self.open_another(out);
        }
        let at = if self.node.missing.is_empty() { NodeAt::PutPoint } else { NodeAt::PutPack };
        self.push("lists gc/: no collection began since", What::Nothing, self.then(at), out);
    }

    /// What the node believes about parents may be old, so it may try any of them.
    fn open(&self, out: &mut Steps) {
        for (number, choice) in self.facts().choices.iter().enumerate() {
            let pin_is_unknown = choice.pin.is_some_and(|pin| !self.state.store.points.has(pin));
            if self.node.tried >> number & 1 == 1 || pin_is_unknown {
                continue;
            }
            let unpinned = choice.pin.is_none() || self.world.breaks(Breach::LayoutNotReadAgain);
            let mut next = self.then(if unpinned { self.listing() } else { NodeAt::ReadLayout });
            next.store.choice[self.session.number()] = number as u8;
            next.store.open = next.store.open.with(self.session);
            let pins = choice.pin.map_or(Set::EMPTY, |pin| Set::of(&[pin]));
            self.push("PUTs its session, which pins", What::Points(pins), next, out);
        }
    }

    fn read_layout(&self, out: &mut Steps) {
        let pin = self.choice().pin.expect("only a session with a pin reads the layout again");
        if self.may_rely_on(pin) {
            self.push("reads the layout again: its pin holds", What::Nothing, self.then(self.listing()), out);
        } else {
            let choice = self.state.store.choice[self.session.number()];
            let tried = self.node.tried | 1 << choice;
            let next = self.remembering(Node { at: NodeAt::Open, tried, ..self.node });
            self.push(
                "reads the layout again: its pin is gone, it must choose another",
                What::Nothing,
                next,
                out,
            );
        }
    }

    /// A point may be built on when it will count until retention drops it. Of its own sessions a node
    /// knows that itself.
    fn may_rely_on(&self, pin: Point) -> bool {
        let view = self.world.view(&self.state.store);
        let acknowledged = self.world.scene.sessions_of(self.number) & self.state.acknowledged;
        let session = self.world.scene.points[pin.number()].session;
        let own = session.is_some_and(|session| acknowledged.has(session));
        let unsettled = own || self.world.breaks(Breach::UnsettledPointPinned);
        view.settled(pin) || unsettled && view.counts(pin)
    }

    fn listing(&self) -> NodeAt {
        if self.world.breaks(Breach::IndexListedBeforeGc) { NodeAt::ListIndex } else { NodeAt::ListGc }
    }

    fn list_gc(&self, out: &mut Steps) {
        let store = &self.state.store;
        if self.world.breaks(Breach::IndexListedBeforeGc) {
            return self.find_missing(
                self.node.listed - store.doomed(),
                "lists gc/, after index/; it lacks",
                out,
            );
        }
        let began = store.newest_collection() != store.opened_in[self.session.number()];
        if self.world.scene.is_numbered() && began && !self.world.breaks(Breach::CollectionNotCheckedAtStart)
        {
            return self.open_another(out);
        }
        // Until it is mended.
        if store.has_damaged_gc() {
            return;
        }
        let (listed, vouched, names_lost) = (store.doomed(), store.vouched(), store.names_lost());
        let at = NodeAt::ListIndex;
        let next = self.remembering(Node { at, listed, vouched, names_lost, ..self.node });
        self.push("lists gc/, which dooms", What::Packs(store.doomed()), next, out);
    }

    /// Nothing was uploaded under this session. A new one takes its place: under the same name, to keep the
    /// scene small, unless somebody may still name the old one.
    fn open_another(&self, out: &mut Steps) {
        let named = self.state.store.fences.has(self.session)
            || self.state.custodians.iter().any(|custodian| custodian.waiting.has(self.session))
            || self.state.late.contains(&Late::Fence(self.session));
        let node = match named {
            true => self.next_attempt(),
            false => Node { at: NodeAt::ReadCollection, tried: 0, missing: Set::EMPTY, ..self.node },
        };
        let mut next = self.remembering(node);
        next.store.open = next.store.open.without(self.session);
        self.push(
            "lists gc/: a collection began; it starts over with a new session",
            What::Nothing,
            next,
            out,
        );
    }

    fn list_index(&self, out: &mut Steps) {
        let trusted = self.trusted();
        if self.world.breaks(Breach::IndexListedBeforeGc) {
            let next = self.remembering(Node { at: NodeAt::ListGc, listed: trusted, ..self.node });
            self.push("lists index/, and trusts", What::Packs(trusted), next, out);
        } else {
            self.find_missing(trusted - self.node.listed, "lists index/; it lacks", out);
        }
    }

    /// Packs named by an index object that this writer believes. What the gc records say it knows from their
    /// listing; the newest had the number then that stands in the session.
    fn trusted(&self) -> Set<Pack> {
        let (world, store) = (self.world, &self.state.store);
        let any = !world.scene.is_numbered() || world.breaks(Breach::AnyCustodianIndexTrusted);
        let newest = store.opened_in[self.session.number()];
        let since = |slot: &IndexSlot| store.custodian_index[slot.number()].collection == newest;
        let believed = store.listed_custodian_index().iter();
        let believed = believed.filter(|slot| any || self.node.vouched.has(*slot) || since(slot));
        let mut packs =
            believed.fold(Set::EMPTY, |all, slot| all | store.custodian_index[slot.number()].packs);
        let own = world.scene.sessions_of(self.number);
        let sessions = match () {
            () if world.breaks(Breach::ForeignIndexTrusted) => world.scene.writers(),
            () if world.breaks(Breach::UnacknowledgedIndexTrusted) => own,
            () => own & self.state.acknowledged,
        };
        for session in sessions.iter() {
            packs |= store.session_index[session.number()];
        }
        packs
    }

    /// What it would have to upload; where writers may know too little, also what they could find.
    fn missing_beside(&self, present: Set<Pack>) -> Vec<Set<Chunk>> {
        let wanted = self.choice().upload | self.lost();
        let missing = wanted - self.state.store.chunks_in(present);
        let mut lacking = vec![missing];
        if self.world.scene.stale_writers && missing != wanted {
            lacking.push(wanted);
        }
        lacking
    }

    fn find_missing(&self, present: Set<Pack>, does: &'static str, out: &mut Steps) {
        for missing in self.missing_beside(present) {
            let at = if missing.is_empty() { NodeAt::PutPoint } else { NodeAt::PutPack };
            let forgotten = Node { listed: Set::EMPTY, vouched: Set::EMPTY, names_lost: false, ..self.node };
            let node = Node { at, missing, ..forgotten };
            self.push(does, What::Chunks(missing), self.remembering(node), out);
        }
    }

    /// What it would take over from the point before and is known to be lost: its source has it still.
    fn lost(&self) -> Set<Chunk> {
        let store = &self.state.store;
        if !self.node.names_lost || self.world.breaks(Breach::LostIgnored) {
            return Set::EMPTY;
        }
        let view = self.world.view(store);
        let tiling = self.choice().pin.and_then(|pin| view.tiling(view.runs(), pin));
        tiling.map_or(Set::EMPTY, |runs| view.chunks(runs) & store.bad)
    }

    fn put_pack(&self, out: &mut Steps) {
        let name = self.state.free_pack();
        let uploaded = Set::of(&[name]);
        let mut next =
            self.remembering(Node { at: NodeAt::PutIndex, missing: Set::EMPTY, uploaded, ..self.node });
        next.store.put_pack(name, self.node.missing);
        self.push("PUTs a pack", pack(name), next, out);
    }

    fn put_index(&self, out: &mut Steps) {
        let mut next = self.remembering(Node { at: NodeAt::PutPoint, uploaded: Set::EMPTY, ..self.node });
        next.store.session_index[self.session.number()] |= self.node.uploaded;
        self.push("PUTs its index object of", What::Packs(self.node.uploaded), next, out);
    }

    fn put_point(&self, place: usize, out: &mut Steps) {
        if self.world.scene.is_without_point(self.session) {
            let node = Node { at: NodeAt::GetFence, ..self.node };
            return Writer { node, ..*self }.get_fence(out);
        }
        let points = &self.facts().points;
        let more = place + 1 < points.len();
        let mut next = self.then(if more { NodeAt::PutSecondPoint } else { NodeAt::GetFence });
        next.store.points = next.store.points.with(points[place]);
        self.push("PUTs its point", What::Points(Set::of(&[points[place]])), next, out);
    }

    fn get_fence(&self, out: &mut Steps) {
        if self.state.store.fences.has(self.session) && !self.world.breaks(Breach::FenceNotChecked) {
            self.try_again("finds its fence, does not acknowledge, starts over", out);
        } else if self.world.scene.is_numbered() && !self.world.breaks(Breach::CollectionNotCheckedAtEnd) {
            self.push("finds no fence for", session(self.session), self.then(NodeAt::ListGcAgain), out);
        } else {
            self.acknowledge("finds no fence, acknowledges", out);
        }
    }

    /// A fence goes when the second collection after the one that the session opened in has begun.
    fn list_gc_again(&self, out: &mut Steps) {
        let opened_in = self.state.store.opened_in[self.session.number()];
        if self.state.store.newest_collection() > opened_in + 1 {
            self.try_again("lists gc/ again: too late for this session, starts over", out);
        } else {
            self.acknowledge("lists gc/ again, acknowledges", out);
        }
    }

    fn acknowledge(&self, does: &'static str, out: &mut Steps) {
        let mut next = self.then(NodeAt::End);
        next.acknowledged = next.acknowledged.with(self.session);
        self.push(does, session(self.session), next, out);
    }

    fn end(&self, out: &mut Steps) {
        let capture = self.node.capture + 1;
        let node = match usize::from(capture) < self.world.scene.nodes[self.number].captures.len() {
            true => Node {
                at: self.world.scene.beginning(self.number),
                capture,
                crashes: self.node.crashes,
                ..Node::default()
            },
            false => Node::default(),
        };
        let mut next = self.remembering(node);
        next.store.mark_ended(self.session);
        self.push("marks its session as ended", session(self.session), next, out);
    }

    fn try_again(&self, does: &'static str, out: &mut Steps) {
        self.push(does, session(self.session), self.remembering(self.next_attempt()), out);
    }

    /// A new session for the same capture; a scene gives each capture a few, then the node gives up.
    pub(crate) fn next_attempt(&self) -> Node {
        let Node { capture, attempt, crashes, .. } = self.node;
        let attempts = self.world.scene.nodes[self.number].captures[usize::from(capture)].len();
        if usize::from(attempt) + 1 == attempts {
            return Node::default();
        }
        Node {
            at: self.world.scene.beginning(self.number),
            capture,
            attempt: attempt + 1,
            crashes,
            ..Node::default()
        }
    }
}
