//! Machines, over SSH and on the controller itself: commands, files, and looks over the network.

pub mod transport;
