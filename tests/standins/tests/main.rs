//! The stand-ins say what the recorded outputs of the real commands say.

mod microk8s;
mod pulumi;
