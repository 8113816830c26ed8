//! How a running robot is reached from elsewhere than its socket.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use crate::cmd::Context;
use crate::config::RobotConfig;
use crate::daemon::{Access, Doors, Server, default_access};

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
