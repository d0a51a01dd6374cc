//! The labs themselves: that what they bring up is real, apart from each other, and gone afterwards.

mod microk8s;
mod ssh;
