//! The scenes, each as small as its question allows, and the ways to vary them.

use crate::scene::{Memory, Scene, Takeover, Thinning, Way};
use crate::sets::{Chunk, Id, Point};

/// Who reads in a scene with several points.
#[derive(Clone, Copy)]
pub(crate) enum Reads {
    Nothing,
    /// The point that retention wants to drop.
    Dropped,
    /// The newest point.
    Head,
}

/// `writers` nodes capture the same chunk. It is in a pack already, and nothing needs it.
pub(crate) fn one_chunk(writers: usize, attempts: usize) -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0]);
    for node in 0..writers {
        scene.capture(node, attempts, &[0], &[(None, &[0], &[&[0]])]);
    }
    scene
}

/// One writer captures it, and a pass may doom nothing after a record that says it goes has got stuck.
pub(crate) fn patient_after_a_crash() -> Scene {
    one_chunk(1, 1).patient_custodian().custodian_crashes(1).numbered().late_custodian()
}

/// A writer captures a chunk that is nowhere yet.
pub(crate) fn new_chunk(attempts: usize) -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.capture(0, attempts, &[0], &[(None, &[0], &[&[0]])]);
    scene
}

/// A pack holds a chunk that a point needs, and one that nothing needs until a writer captures it; a second
/// writer captures both.
pub(crate) fn sparse_pack(writers: usize) -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0, 1]);
    scene.kept(None, &[0]);
    scene.capture(0, 2, &[0], &[(None, &[1], &[&[1]])]);
    if writers == 2 {
        scene.capture(1, 1, &[0], &[(None, &[0, 1], &[&[0, 1]])]);
    }
    scene
}

/// Two packs of garbage, of which the custodian may doom one; a writer captures what is in both.
pub(crate) fn two_packs() -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0]);
    scene.pack(&[1]);
    scene.capture(0, 2, &[0], &[(None, &[0, 1], &[&[0, 1]])]);
    scene.picky_custodian = true;
    scene
}

/// Points h, i, j of one lineage, of which retention drops i: (h,i] and (i,j] become (h,j]. A writer whose
/// cursor may be at i or at j captures one more chunk, on either, or anew. Chunks: 0 1 2 3 are the records
/// of (∅,h], (h,i], (i,j], (h,j]; 4 5 6 the data of h, of i alone, of j; 7 is new.
pub(crate) fn thinned(attempts: usize, reads: Reads) -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[4, 5]);
    scene.pack(&[0, 1]);
    scene.pack(&[2, 6]);
    let h = scene.kept(None, &[0, 4]);
    let i = scene.kept(Some(h), &[1, 5]);
    let j = scene.kept(Some(i), &[2, 6]);
    let merged = scene.run(Some(h), j, &[3, 6]);
    scene.thinning.push(Thinning { drop: i, merged: Some((merged, Chunk::nth(3))) });
    if attempts > 0 {
        let ways: &[Way<'_>] =
            &[(Some(i), &[7], &[&[7]]), (Some(j), &[7], &[&[7]]), (None, &[0, 4, 7], &[&[0, 4, 7]])];
        scene.capture(0, attempts, &[0], ways);
    }
    match reads {
        Reads::Nothing => {}
        Reads::Dropped => scene.reads(i),
        Reads::Head => scene.reads(j),
    }
    scene
}

/// Retention may drop the only point, and a writer captures what only that needed.
pub(crate) fn given_up() -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0]);
    let point = scene.kept(None, &[0]);
    scene.capture(0, 2, &[0], &[(None, &[0], &[&[0]])]);
    scene.droppable(&[point]);
    scene
}

/// A node commits a partial point, then the full one, going on from the partial if it can; retention may
/// drop the partial at any time. Chunk 0 and the part of the run in 2 belong to the partial, chunk 1 to the
/// rest.
pub(crate) fn interrupted() -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0]);
    let partials = scene.capture(0, 2, &[0], &[(None, &[0, 2], &[&[0, 2]])]);
    scene.resumed(0, 2, &partials, &[1], &[0, 1, 2]);
    scene.droppable(&partials);
    scene
}

/// A node captures the same chunk twice, and may find it in its own index object; retention may drop the
/// first point.
pub(crate) fn captured_twice(attempts: usize) -> Scene {
    let mut scene = Scene::of_two_rounds();
    let firsts = scene.capture(0, attempts, &[0], &[(None, &[0], &[&[0]])]);
    scene.capture(0, 2, &[0], &[(None, &[0], &[&[0]])]);
    scene.droppable(&firsts);
    scene
}

/// One session commits the first points of two sources that no layout knows yet.
pub(crate) fn two_sources() -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0, 1]);
    scene.capture(0, 2, &[0, 1], &[(None, &[0, 1], &[&[0], &[1]])]);
    scene
}

/// Another node goes on from the point that a node may or may not have left behind.
pub(crate) fn inherited() -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0]);
    let left = scene.capture(0, 1, &[0], &[(None, &[0], &[&[0]])]);
    scene.capture(1, 1, &[0], &[(Some(left[0]), &[1], &[&[1]]), (None, &[0, 1], &[&[0, 1]])]);
    scene
}

/// A reader wants the point that a node may or may not have left behind.
pub(crate) fn just_written() -> Scene {
    let mut scene = Scene::of_two_rounds();
    scene.pack(&[0]);
    let left = scene.capture(0, 1, &[0], &[(None, &[0], &[&[0]])]);
    scene.reads(left[0]);
    scene
}

/// The disk may lose one of two packs, of which a point needs the one, and nothing the other. A writer captures what is in
/// the other, on the point or anew.
pub(crate) fn damaged(attempts: usize) -> Scene {
    let mut scene = Scene::of_two_rounds().numbered().damages(1);
    scene.pack(&[0]);
    scene.pack(&[1]);
    let point = scene.kept(None, &[0]);
    let ways: &[Way<'_>] = &[(Some(point), &[1], &[&[1]]), (None, &[0, 1], &[&[0, 1]])];
    scene.capture(0, attempts, &[0], ways);
    scene
}

/// A node copies a point of another vault, of which some chunks are here, and nothing needs them. `parts` commits bring
/// chunks alone before the one with the point.
pub(crate) fn copied(attempts: usize, parts: usize) -> Scene {
    let mut scene = Scene::of_two_rounds().numbered();
    scene.pack(&[0]);
    scene.copied_point(0, attempts, parts);
    scene
}

/// Two nodes copy the same point.
pub(crate) fn copied_by_two(attempts: usize) -> Scene {
    let mut scene = copied(attempts, 0);
    scene.copied_point(1, 1, 0);
    scene
}

/// A copy builds on the point before, which is here, and which retention may drop; or it brings what that is made of.
pub(crate) fn copied_onto(attempts: usize) -> Scene {
    let mut scene = Scene::of_two_rounds().numbered();
    scene.pack(&[0]);
    let point = scene.kept(None, &[0]);
    let ways: &[Way<'_>] = &[(Some(point), &[1], &[&[1]]), (None, &[0, 1], &[&[0, 1]])];
    scene.capture(0, attempts, &[0], ways);
    scene.nodes[0].copies = true;
    scene.droppable(&[point]);
    scene
}

impl Scene {
    fn copied_point(&mut self, node: usize, attempts: usize, parts: usize) {
        for _ in 0..parts {
            self.capture(node, attempts, &[0], &[(None, &[0], &[&[0]])]);
        }
        let all: &[usize] = if parts > 0 { &[0, 1] } else { &[0] };
        self.capture(node, attempts, &[0], &[(None, all, &[all])]);
        self.nodes[node].copies = true;
    }

    fn of_two_rounds() -> Self {
        Self { rounds: 2, ..Self::default() }
    }

    /// Retention may drop the points; they have no children.
    fn droppable(&mut self, points: &[Point]) {
        self.thinning.extend(points.iter().map(|drop| Thinning { drop: *drop, merged: None }));
    }

    pub(crate) fn rounds(self, rounds: u8) -> Self {
        Self { rounds, ..self }
    }
    pub(crate) fn custodian_crashes(self, crashes: u8) -> Self {
        Self { crashes, ..self }
    }
    pub(crate) fn first_node_crashes(mut self, crashes: u8) -> Self {
        self.nodes[0].crashes = crashes;
        self
    }
    pub(crate) fn numbered(self) -> Self {
        Self { memory: Memory::Numbered, ..self }
    }
    pub(crate) fn late_custodian(self) -> Self {
        Self { late_custodian: true, ..self }
    }
    pub(crate) fn undeleted(self, undeletes: u8) -> Self {
        Self { undeletes, ..self }
    }
    pub(crate) fn damages(self, damages: u8) -> Self {
        Self { damages, ..self }
    }
    pub(crate) fn takeover(self, takeover: Takeover) -> Self {
        Self { takeover, ..self }
    }
    pub(crate) fn copying_first(self) -> Self {
        Self { copying_first: true, ..self }
    }
    pub(crate) fn picky_custodian(self) -> Self {
        Self { picky_custodian: true, ..self }
    }
    pub(crate) fn patient_custodian(self) -> Self {
        Self { patient_custodian: true, ..self }
    }
    pub(crate) fn reading_first(self) -> Self {
        Self { reading_first: true, ..self }
    }
    pub(crate) fn stale_writers(self) -> Self {
        Self { stale_writers: true, ..self }
    }
}
