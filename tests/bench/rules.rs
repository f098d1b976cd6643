//! The pure rules: what evaluating a mandate of ten rules costs without server, wire or disk.
//!
//! It is to call the library directly, in this thread, and add rows to the table (`table`). Not
//! here: anything that needs a running server (`scenarios`, `scale`).
