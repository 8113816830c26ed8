//! How clients reach a running robot: its socket, and the doors to elsewhere.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use super::{Deployment, Running};
use crate::cmd::Context;
use crate::config::RobotConfig;
use crate::control::TeleopSender;
use crate::daemon::{
    Access, Doors, Episodes, Jobs, Policies, Served, Server, Service, default_access,
    default_socket,
};

/// Of `regoal run`.
#[derive(Debug, Args)]
pub(super) struct DoorArgs {
    /// Serve other computers over TLS at this address, such as 0.0.0.0:7423; each needs a key, which
    /// `regoal pair` gives
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Serve the web page to browsers on this computer, by a link that is printed
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0")]
    page: Option<u16>,
    /// Where the certificate and the clients' keys are kept; by default in the service's or user's
    /// state folder
    #[arg(long, value_name = "FOLDER")]
    access: Option<PathBuf>,
}

impl DoorArgs {
    /// The doors that are wished for, if any are.
    pub(super) fn open(&self, robot: &RobotConfig, context: &Context) -> Result<Option<Doors>> {
        if self.listen.is_none() && self.page.is_none() {
            return Ok(None);
        }
        let folder = self.access.clone().unwrap_or_else(|| default_access(&robot.name));
        let access = Access::open(&context.storage, Arc::clone(&context.clock), &folder)?;
        Ok(Some(Doors { access, listen: self.listen, page: self.page }))
    }

    /// Says where the robot is reached.
    pub(super) fn tell(&self, server: &Server, access: Option<&Access>) -> Result<()> {
        let Some(access) = access else { return Ok(()) };
        if let Some(listening) = server.listening() {
            tell!(
                "clients with a key at {listening} (`regoal pair` gives one, `regoal pair --page --name \
                 tablet` a link to the page), certificate {}",
                access.fingerprint()
            );
        }
        if self.page.is_some() {
            // It is a secret as long as nobody has used it: not for the journal.
            if std::io::stdout().is_terminal() {
                let link = access.page_link().map_err(|reply| anyhow::anyhow!(reply.error))?;
                tell!("the page, once: {link}");
            } else {
                tell!("the page: `regoal pair --page` shows a link that opens it once");
            }
        }
        Ok(())
    }
}

impl super::Args {
    /// Serves clients, who steer it unless a device does, and says where.
    pub(super) fn serve(
        &self,
        running: &Running,
        sender: Option<TeleopSender>,
        (deployment, jobs): (Option<Arc<Deployment>>, Option<Arc<Jobs>>),
        context: &Context,
    ) -> Result<Server> {
        let robot = &running.robot;
        let mut served = Served::new(running.handle(), running.facts())?;
        if let Some(sender) = sender {
            served = served.steered(sender)?;
        }
        let storage = Arc::clone(&context.storage);
        let folder = self.episodes.clone();
        let service = Service {
            robot: Arc::new(served),
            clock: Arc::clone(&context.clock),
            episodes: Some(Episodes { storage: Arc::clone(&storage), folder }),
            jobs,
            policies: deployment.map(|deployment| deployment as Arc<dyn Policies>),
        };
        let socket = self.socket.clone().unwrap_or_else(|| default_socket(&robot.name));
        let doors = self.doors.open(robot, context)?;
        let access = doors.as_ref().map(|doors| Arc::clone(&doors.access));
        let server = Server::start(&socket, service, storage, doors)?;
        running.serve();
        tell!("{} on {}, API at {}", robot.name, running.port, socket.display());
        self.doors.tell(&server, access.as_deref())?;
        Ok(server)
    }
}
