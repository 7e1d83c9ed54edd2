//! A network of the run's own: a namespace for each node, joined by a bridge, on which the clients stand.
//!
//! A direction is cut by giving the sender a wrong hardware address of the receiver: what it sends reaches nobody and nobody
//! says so, which is how a real network loses things. No firewall is needed for it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::site::{Site, system};

/// Most nodes.
const MOST: usize = 5;

/// The network; it goes with the process, whose namespaces nobody else is in.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// The network of a run, where the site has one.
    ///
    /// # Errors
    /// If it cannot be laid after all.
    pub fn for_site(site: &Site) -> Result<Option<Self>> {
        site.namespaces().then(Self::lay).transpose()
    }

    /// Lays the cables.
    fn lay() -> Result<Self> {
        system("mkdir -p /run/netns")?;
        // Names of namespaces are files: in a file system of our own they meet nobody's.
        system("mount -t tmpfs none /run/netns")?;
        system("ip link set lo up")?;
        system("ip link add torture type bridge")?;
        system("ip addr add 10.77.0.254/24 dev torture")?;
        system("ip link set torture up")?;
        for node in 1..=MOST {
            system(&format!("ip netns add n{node}"))?;
            system(&format!("ip link add v{node} type veth peer name eth0 address {} netns n{node}", hardware(node)))?;
            system(&format!("ip link set v{node} master torture up"))?;
            system(&format!("ip -n n{node} addr add {}/24 dev eth0", address(node)))?;
            system(&format!("ip -n n{node} link set eth0 up"))?;
            system(&format!("ip -n n{node} link set lo up"))?;
        }
        Ok(Self(()))
    }

    /// Where a node listens.
    pub(super) fn socket(&self, node: usize, port: u16) -> SocketAddr {
        SocketAddr::from((address(node), port))
    }

    /// What runs a program as a node.
    pub(super) fn entry(&self, node: usize) -> Vec<String> {
        // Not `ip netns exec`: it takes a copy of every mount along, and a disk that others hold cannot be taken away.
        ["nsenter".to_owned(), format!("--net=/run/netns/n{node}")].to_vec()
    }

    /// What `from` sends to `to` is lost.
    pub(super) fn cut(&self, from: usize, to: usize) -> Result<()> {
        self.point(from, to, "02:00:00:00:00:ee")
    }

    /// It is no longer.
    pub(super) fn join(&self, from: usize, to: usize) -> Result<()> {
        self.point(from, to, &hardware(to))
    }

    fn point(&self, from: usize, to: usize, hardware: &str) -> Result<()> {
        system(&format!("ip -n n{from} neigh replace {} lladdr {hardware} dev eth0 nud permanent", address(to)))
    }

    /// What a node sends goes at this rate, in kilobits a second.
    pub(super) fn slow(&self, node: usize, kilobits: u32) -> Result<()> {
        system(&format!("tc -n n{node} qdisc replace dev eth0 root tbf rate {kilobits}kbit burst 4kb latency 300ms"))
    }

    /// It goes as fast as it can.
    pub(super) fn fast(&self, node: usize) -> Result<()> {
        system(&format!("tc -n n{node} qdisc del dev eth0 root"))
    }

    /// Everything is joined.
    pub(super) fn heal(&self) -> Result<()> {
        let pairs = (1..=MOST).flat_map(|from| (1..=MOST).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).try_for_each(|(from, to)| self.join(from, to))
    }
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(node).expect("there are few nodes"))
}

fn hardware(node: usize) -> String {
    format!("02:00:00:00:00:{node:02x}")
}
