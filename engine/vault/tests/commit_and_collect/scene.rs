//! A scene: the fixed facts of one small world. Who captures what, who reads what, what retention wants,
//! how often whom may crash. Owns how a scene is put together and its first state; the scenes themselves
//! stand in `scenes`.

use crate::sets::{Chunk, Id, Pack, Point, Run, Session, Set};
use crate::state::{Custodian, Damage, Duty, NODES, Node, NodeAt, Reader, ReaderAt, State};
use crate::store::{IndexObject, SESSIONS, SOURCES, Store};

#[derive(Clone, Default)]
pub(crate) struct Scene {
    pub(crate) memory: Memory,
    pub(crate) takeover: Takeover,
    /// A custodian's PUT may land after its end, as a writer's may after a crash.
    pub(crate) late_custodian: bool,
    /// Live records of doomed packs are copied and indexed before the gc record, not only rescued after it.
    pub(crate) copying_first: bool,
    /// The custodian may also doom one pack alone, and leave other garbage for later.
    pub(crate) picky_custodian: bool,
    /// It may also doom nothing, as a pass does that only decides.
    pub(crate) patient_custodian: bool,
    /// A writer may also upload what it could have known to be present.
    pub(crate) stale_writers: bool,
    /// Writers may go by what they have read before they open their sessions.
    pub(crate) reading_first: bool,
    /// Collections of each custodian.
    pub(crate) rounds: u8,
    pub(crate) crashes: u8,
    pub(crate) thinning: Vec<Thinning>,
    /// How often the operator may want all given up points back.
    pub(crate) undeletes: u8,
    /// Packs and gc records that the disk may damage.
    pub(crate) damages: u8,
    pub(crate) points: Vec<PointFacts>,
    pub(crate) runs: Vec<RunFacts>,
    pub(crate) sessions: Vec<SessionFacts>,
    pub(crate) nodes: [NodeFacts; NODES],
    pub(crate) reader: Option<(Session, Point)>,
    pub(crate) packs: Vec<Set<Chunk>>,
}

/// How decisions, sessions and fences are kept.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Memory {
    /// For ever; the gc record goes at the end of its collection. The core of the protocol, in the smallest
    /// scenes.
    #[default]
    Everything,
    /// Collections are numbered, and sessions, points and index objects carry the number of the newest. A
    /// gc record stays until the next one is there. What is older than a collection or two is decided by
    /// that alone, and forgotten.
    Numbered,
}

/// Whether a second custodian takes over, and what became of the credentials of the first.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Takeover {
    #[default]
    Never,
    AfterRevocation,
    WithoutRevocation,
}

/// Retention's wish: drop a point; if it has a child, a merged run (with its record) takes the place of
/// two.
#[derive(Clone, Copy)]
pub(crate) struct Thinning {
    pub(crate) drop: Point,
    pub(crate) merged: Option<(Run, Chunk)>,
}

#[derive(Clone, Copy)]
pub(crate) struct PointFacts {
    pub(crate) source: usize,
    /// None: there from the start.
    pub(crate) session: Option<Session>,
}

/// A run (from, to] and the chunks it needs: its own record and what it references.
#[derive(Clone, Copy)]
pub(crate) struct RunFacts {
    pub(crate) from: Option<Point>,
    pub(crate) to: Point,
    pub(crate) chunks: Set<Chunk>,
}

/// A session of a writer has points, that of a reader has none.
#[derive(Clone, Default)]
pub(crate) struct SessionFacts {
    pub(crate) points: Vec<Point>,
    pub(crate) choices: Vec<ChoiceFacts>,
}

/// One way to do a capture: on which parent or partial point, and what is then to be found or uploaded.
#[derive(Clone)]
pub(crate) struct ChoiceFacts {
    pub(crate) pin: Option<Point>,
    pub(crate) upload: Set<Chunk>,
    /// The own run of each of the session's points.
    pub(crate) runs: Vec<Run>,
}

#[derive(Clone, Default)]
pub(crate) struct NodeFacts {
    /// Per capture, the sessions of its attempts.
    pub(crate) captures: Vec<Vec<Session>>,
    pub(crate) crashes: u8,
    /// It copies one point of another vault: its last capture, as that of any other copier here. What comes before that are
    /// commits of chunks alone.
    pub(crate) copies: bool,
}

/// A way to capture, before its points have names: parent, chunks to find or upload, chunks of each point's
/// own run.
pub(crate) type Way<'a> = (Option<Point>, &'a [usize], &'a [&'a [usize]]);

/// Putting a scene together.
impl Scene {
    /// A pack that the custodian's first index object lists.
    pub(crate) fn pack(&mut self, contents: &[usize]) {
        self.packs.push(chunks(contents));
    }

    /// An accepted point of the first source, there from the start.
    pub(crate) fn kept(&mut self, parent: Option<Point>, contents: &[usize]) -> Point {
        let point = self.point(0, None);
        self.run(parent, point, contents);
        point
    }

    pub(crate) fn run(&mut self, from: Option<Point>, to: Point, contents: &[usize]) -> Run {
        self.runs.push(RunFacts { from, to, chunks: chunks(contents) });
        Run::nth(self.runs.len() - 1)
    }

    /// A capture by `node`, after those it has already: `attempts` sessions, each with a point per source,
    /// done in one of `ways`. Returns the points of the first source, by attempt.
    pub(crate) fn capture(
        &mut self,
        node: usize,
        attempts: usize,
        sources: &[usize],
        ways: &[Way<'_>],
    ) -> Vec<Point> {
        let mut sessions = Vec::new();
        let mut firsts = Vec::new();
        for _ in 0..attempts {
            let session = Session::nth(self.sessions.len());
            let points: Vec<Point> =
                sources.iter().map(|source| self.point(*source, Some(session))).collect();
            let mut choices = Vec::new();
            for (pin, upload, own) in ways {
                let own = points.iter().zip(*own);
                let runs = own.map(|(point, contents)| self.run(*pin, *point, contents)).collect();
                choices.push(ChoiceFacts { pin: *pin, upload: chunks(upload), runs });
            }
            firsts.push(points[0]);
            self.session(SessionFacts { points, choices });
            sessions.push(session);
        }
        self.nodes[node].captures.push(sessions);
        firsts
    }

    /// A full capture that may go on from one of the partial points. Its run starts at nothing and has all
    /// parts.
    pub(crate) fn resumed(
        &mut self,
        node: usize,
        attempts: usize,
        partials: &[Point],
        rest: &[usize],
        all: &[usize],
    ) {
        let mut ways: Vec<Way<'_>> = vec![(None, all, &[])];
        ways.extend(partials.iter().map(|partial| (Some(*partial), rest, &[] as &[&[usize]])));
        let before = self.sessions.len();
        let points = self.capture(node, attempts, &[0], &ways);
        for (attempt, point) in points.into_iter().enumerate() {
            let run = self.run(None, point, all);
            self.sessions[before + attempt].choices.iter_mut().for_each(|choice| choice.runs = vec![run]);
        }
    }

    pub(crate) fn reads(&mut self, point: Point) {
        let session = Session::nth(self.sessions.len());
        let choice = ChoiceFacts { pin: Some(point), upload: Set::EMPTY, runs: Vec::new() };
        self.session(SessionFacts { points: Vec::new(), choices: vec![choice] });
        self.reader = Some((session, point));
    }

    fn session(&mut self, facts: SessionFacts) {
        assert!(self.sessions.len() < SESSIONS, "a scene has at most {SESSIONS} sessions");
        self.sessions.push(facts);
    }

    fn point(&mut self, source: usize, session: Option<Session>) -> Point {
        assert!(source < SOURCES, "a scene has at most {SOURCES} sources");
        self.points.push(PointFacts { source, session });
        Point::nth(self.points.len() - 1)
    }
}

/// Asking it.
impl Scene {
    /// Points that are all copies of the same one.
    pub(crate) fn copies(&self) -> Set<Point> {
        let copiers = self.nodes.iter().filter(|node| node.copies);
        let last = copiers.filter_map(|node| node.captures.last()).flatten();
        let points = last.flat_map(|session| &self.sessions[session.number()].points);
        points.fold(Set::EMPTY, |all, point| all.with(*point))
    }

    /// Whether the session commits chunks and no point.
    pub(crate) fn is_without_point(&self, session: Session) -> bool {
        let copiers = self.nodes.iter().filter(|node| node.copies);
        copiers.flat_map(|node| node.captures.iter().rev().skip(1)).flatten().any(|own| *own == session)
    }

    pub(crate) fn is_numbered(&self) -> bool {
        self.memory == Memory::Numbered
    }

    pub(crate) fn own_run(&self, store: &Store, point: Point) -> Run {
        let Some(session) = self.points[point.number()].session else {
            let own = self.runs.iter().position(|run| run.to == point);
            return Run::nth(own.expect("every point of the start has a run"));
        };
        let facts = &self.sessions[session.number()];
        let place = facts.points.iter().position(|own| *own == point).expect("a session's own point");
        facts.choices[usize::from(store.choice[session.number()])].runs[place]
    }

    pub(crate) fn sessions_of(&self, node: usize) -> Set<Session> {
        self.nodes[node].captures.iter().flatten().fold(Set::EMPTY, |all, session| all.with(*session))
    }

    pub(crate) fn writers(&self) -> Set<Session> {
        (0..NODES).fold(Set::EMPTY, |all, node| all | self.sessions_of(node))
    }

    pub(crate) fn sources(&self) -> usize {
        self.points.iter().map(|point| point.source + 1).max().unwrap_or(1)
    }

    /// Where every session of a writer begins.
    pub(crate) fn opening(&self) -> NodeAt {
        if self.is_numbered() { NodeAt::ReadCollection } else { NodeAt::Open }
    }

    /// Where a node begins one: a copier looks first whether the point is there.
    pub(crate) fn beginning(&self, node: usize) -> NodeAt {
        if self.nodes[node].copies { NodeAt::LookForCopy } else { self.opening() }
    }

    /// The first state.
    pub(crate) fn start(&self) -> State {
        State {
            store: self.first_store(),
            nodes: std::array::from_fn(|number| {
                let facts = &self.nodes[number];
                let at = if facts.captures.is_empty() { NodeAt::Done } else { self.beginning(number) };
                Node { at, crashes: facts.crashes, ..Node::default() }
            }),
            reader: match self.reader {
                Some(_) => Reader { at: ReaderAt::Open, ..Reader::default() },
                None => Reader::default(),
            },
            custodians: [
                Custodian { at: Duty::Idle, crashes: self.crashes, finished: true, ..Custodian::default() },
                Custodian::default(),
            ],
            late: Default::default(),
            term: 0,
            acknowledged: Set::EMPTY,
            given_up: Set::EMPTY,
            undeletes: self.undeletes,
            found: Set::EMPTY,
            damage: Damage { to_come: self.damages, ..Damage::default() },
        }
    }

    fn first_store(&self) -> Store {
        let mut store = Store::default();
        for (number, contents) in self.packs.iter().enumerate() {
            store.put_pack(Pack::nth(number), *contents);
        }
        store.custodian_index[0] = IndexObject { packs: store.packs, collection: 0 };
        for number in (0..self.points.len()).filter(|number| self.points[*number].session.is_none()) {
            let point = Point::nth(number);
            let run = self.own_run(&store, point);
            store.points = store.points.with(point);
            let layout = &mut store.layouts[self.points[number].source];
            layout.exists = true;
            layout.accepted = layout.accepted.with(point);
            layout.runs = layout.runs.with(run);
        }
        store
    }
}

fn chunks(numbers: &[usize]) -> Set<Chunk> {
    numbers.iter().fold(Set::EMPTY, |set, number| set.with(Chunk::nth(*number)))
}
