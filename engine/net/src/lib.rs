//! How nodes of a fleet reach each other: connections over QUIC with mutual TLS, who is at the other end, and the two sides of
//! a vault that another node holds. What is in objects is none of its business.
