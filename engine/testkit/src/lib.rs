//! What tests of several crates share: stores that fail and crash on demand, the suite that every store
//! passes, a vault with keys, captures and objects written by hand, a stand-in for tailscaled, services
//! with buckets, networks of hosts, and a machine of the worst day. Never part of a release.

pub mod bare;
pub mod bucket;
pub mod bucket_stand_in;
pub mod capture;
pub mod conformance;
pub mod crash;
pub mod fault;
pub mod faulty_proxy;
pub mod fixture;
pub mod forge;
pub mod forwarded;
pub mod garage;
pub mod intruder;
pub mod kind;
pub mod local_api;
pub mod network;
pub mod ports;
pub mod power;
pub mod process;
pub mod random;
pub mod rows;
pub mod s3s_fs;
pub mod seals;
pub mod sim;
pub mod tls_proxy;
pub mod udp_relay;
