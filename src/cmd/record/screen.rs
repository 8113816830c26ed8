//! One screen: where the session is, how the arm does, and what the keys do.

use std::time::Duration;

use anyhow::{Result, ensure};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::booth::Booth;
use super::headless::name;
use crate::config::RobotConfig;
use crate::control::Status;
use crate::teleop::{KEYS, Keys, Session, State, Word};

/// Between two pictures.
const LOOK: Duration = Duration::from_millis(50);
/// Columns of a joint's bar.
const BAR: usize = 31;

/// Runs a session to its end.
///
/// # Errors
/// There is no terminal, or the loop has ended.
pub fn run(session: &mut Session, booth: &mut Booth, keys: Option<Keys>) -> Result<()> {
    use std::io::IsTerminal as _;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    ensure!(terminal, "expected a terminal for the screen, found none: --headless does without");
    // What is logged would tear the screen; what matters is on it.
    let level = log::max_level();
    log::set_max_level(log::LevelFilter::Off);
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, session, booth, keys);
    ratatui::restore();
    log::set_max_level(level);
    shown
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    session: &mut Session,
    booth: &mut Booth,
    keys: Option<Keys>,
) -> Result<()> {
    while session.state() != State::Finished {
        booth.look(session)?;
        booth.filed();
        let view = View {
            session,
            robot: &booth.robot,
            task: booth.task(),
            status: &booth.status,
            rate: booth.rate(),
            free: booth.free(),
            trouble: booth.seat.error(),
            keyboard: keys.is_some(),
        };
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(LOOK)? {
            // All that is there: a held key must not fall behind.
            while event::poll(Duration::ZERO)? {
                if let Event::Key(key) = event::read()? {
                    press(key, session, booth, keys.as_ref());
                }
            }
        }
        if booth.is_to_end() {
            booth.say(session, Word::Quit);
        }
    }
    Ok(())
}

fn press(key: KeyEvent, session: &mut Session, booth: &mut Booth, keys: Option<&Keys>) {
    if key.kind == KeyEventKind::Release {
        return;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        if key.code == KeyCode::Char('c') {
            booth.say(session, Word::Quit);
        }
        return;
    }
    match word(key.code, session.state()) {
        Some(word) => booth.say(session, word),
        None => {
            keys.map(|keys| keys.press(key.code));
        }
    }
}

/// What a key says.
fn word(key: KeyCode, state: State) -> Option<Word> {
    Some(match key {
        KeyCode::Char(' ') if state == State::Recording => Word::Stop,
        KeyCode::Char(' ') => Word::Start,
        KeyCode::Char('a') => Word::Arm,
        KeyCode::Char('n') => Word::Accept,
        KeyCode::Char('r') => Word::Again,
        KeyCode::Char('s') => Word::Success,
        KeyCode::Char('f') => Word::Failure,
        KeyCode::Char('g') => Word::Mark,
        KeyCode::Char('u') => Word::Undo,
        KeyCode::Char('q') | KeyCode::Esc => Word::Quit,
        KeyCode::Char('e') => Word::EmergencyStop,
        _ => return None,
    })
}

/// What a picture is drawn from.
struct View<'a> {
    session: &'a Session,
    robot: &'a RobotConfig,
    task: &'a str,
    status: &'a Status,
    rate: f64,
    free: Option<u64>,
    trouble: Option<String>,
    keyboard: bool,
}

impl View<'_> {
    fn draw(&self, frame: &mut Frame) {
        let rows = [3, 2, self.robot.joint.len() as u16 + 2, 3, 3].map(Constraint::Length);
        let [head, loop_, joints, message, keys] = Layout::vertical(rows).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        frame.render_widget(Paragraph::new(self.health()), loop_);
        frame.render_widget(Paragraph::new(self.joints()), joints);
        frame.render_widget(Paragraph::new(self.message()), message);
        frame.render_widget(Paragraph::new(self.keys()), keys);
    }

    fn head(&self) -> Vec<Line<'static>> {
        let (kept, count) = self.session.progress();
        let state = self.session.state();
        let color = match state {
            State::Recording => Color::Red,
            State::Armed => Color::Green,
            State::Idle => Color::Gray,
            _ => Color::Yellow,
        };
        let title = format!("regoal record · {}", self.robot.name);
        let task = if self.task.is_empty() { String::new() } else { format!(" · {}", self.task) };
        let lasted = self.session.lasted().as_secs_f64();
        vec![
            Line::from(title + &task).bold(),
            Line::from(vec![
                Span::raw(format!("episode {} of {count}   ", (kept + 1).min(count))),
                Span::styled(
                    format!(" {} ", name(state).to_uppercase()),
                    Style::new().fg(Color::Black).bg(color),
                ),
                Span::raw(format!("  {lasted:.1} s")),
            ]),
        ]
    }

    fn health(&self) -> Line<'static> {
        let (wished, missed) = (self.robot.control.rate_hz, self.status.counters.missed);
        let disk = self
            .free
            .map_or("?".into(), |free| format!("{:.1} GiB free", free as f64 / f64::from(1 << 30)));
        Line::from(format!("{:.1} of {wished} Hz · {missed} missed ticks · {disk}", self.rate))
    }

    fn joints(&self) -> Vec<Line<'static>> {
        let step = &self.status.step;
        let warm = self.robot.safety.warn_temperature;
        let mut lines = vec![Line::from("joint          measured █ wished │").dim()];
        for (i, joint) in self.robot.joint.iter().enumerate() {
            let q = step.position.get(i).map_or(0.0, |q| f64::from(*q));
            let wish = step.action.get(i).map(|q| f64::from(*q));
            let celsius = step.temperature.get(i).map_or(0.0, |t| f64::from(*t));
            let hot = if celsius >= warm { Style::new().fg(Color::Red) } else { Style::new() };
            lines.push(Line::from(vec![
                Span::raw(format!("{:<14} ", joint.name)),
                Span::raw(bar((joint.min_rad, joint.max_rad), q, wish)),
                Span::raw(format!(" {q:+.2} rad ")),
                Span::styled(format!("{celsius:3.0} °C"), hot),
            ]));
        }
        lines
    }

    fn message(&self) -> Vec<Line<'static>> {
        let mut lines = vec![Line::from(self.session.message().to_owned()).yellow()];
        lines.extend(self.trouble.clone().map(|trouble| Line::from(trouble).red()));
        lines
    }

    fn keys(&self) -> Vec<Line<'static>> {
        let mut lines = vec![
            Line::from(
                "space start/stop · n accept · r again · s success · f failure · g mark goal",
            ),
            Line::from(vec![
                Span::raw("u undo last · a arm · q quit · "),
                Span::raw("e EMERGENCY STOP").red().bold(),
            ]),
        ];
        if self.keyboard {
            lines.push(Line::from(KEYS).cyan());
        }
        lines
    }
}

/// A joint's range with where it is and where it is wished.
fn bar((low, high): (f64, f64), q: f64, wish: Option<f64>) -> String {
    let place = |q: f64| {
        let share = ((q - low) / (high - low)).clamp(0.0, 1.0);
        (share * (BAR - 1) as f64).round() as usize
    };
    let mut cells = ['─'; BAR];
    if let Some(wish) = wish {
        cells[place(wish)] = '│';
    }
    cells[place(q)] = '█';
    cells.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episode::{Mode, Step};
    use crate::joints::stack;
    use crate::storage::Disk;
    use crate::teleop::{Observed, SessionConfig};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn the_screen_says_where_the_session_and_the_arm_are() {
        let path = std::path::Path::new("firmware-config/emulated.toml");
        let robot = RobotConfig::load(&Disk, path).unwrap();
        let config = SessionConfig {
            count: 3,
            episode: Duration::from_secs(60),
            reset: Duration::from_secs(5),
            autonomous: false,
            by_hand: false,
        };
        let mut session = Session::new(config);
        let mut seen = Observed {
            now: crate::clock::Time(1),
            mode: Mode::Teleop,
            home: true,
            together: true,
            done: false,
            files: 0,
            failures: 0,
        };
        session.word(Word::Arm);
        session.observe(&seen);
        session.word(Word::Start);
        seen.now = crate::clock::Time::from_secs_f64(4.2);
        session.observe(&seen);
        let step = Step {
            position: stack([0.0, -0.6, 0.6, 0.6, 0.0, 0.0]),
            action: stack([1.0, -0.6, 0.6, 0.6, 0.0, 0.0]),
            temperature: stack([31.0, 31.0, 56.0, 31.0, 31.0, 31.0]),
            ..Step::default()
        };
        let view = View {
            session: &session,
            robot: &robot,
            task: "push the cube",
            status: &Status { step, ..Status::default() },
            rate: 99.97,
            free: Some(5 << 30),
            trouble: None,
            keyboard: true,
        };
        let mut terminal = Terminal::new(TestBackend::new(84, 20)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let shown: Vec<String> = terminal
            .backend()
            .buffer()
            .content()
            .chunks(84)
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>())
            .map(|row| row.trim_end().to_owned())
            .collect();
        let expected = [
            "regoal record · so101-emulated · push the cube",
            "episode 1 of 3    RECORDING   4.2 s",
            "",
            "100.0 of 100 Hz · 0 missed ticks · 5.0 GiB free",
            "",
            "joint          measured █ wished │",
            "shoulder_pan   ───────────────█───────│─────── +0.00 rad  31 °C",
            "shoulder_lift  ──────────█──────────────────── -0.60 rad  31 °C",
            "elbow_flex     ────────────────────█────────── +0.60 rad  56 °C",
        ];
        assert_eq!(shown[..expected.len()], expected);
        assert!(shown.iter().any(|line| line.contains("e EMERGENCY STOP")));
        assert!(shown.iter().any(|line| line.contains("PgUp")));
    }
}
