//! The C library behind safe functions. The one file of [`env`](crate::env) with `unsafe`.
//!
//! Models and data stay opaque: the layout of MuJoCo's structures changes from version to version,
//! and the functions here do not, from 3.5 to 4.0. Positions, speeds and controls go in and out as
//! parts of the state vector (`mj_getState`).
//!
//! MuJoCo's warnings are not printed: what they warn of (a state that diverges, too many contacts)
//! is for [`Simulation::diverged`] to find. Its errors (out of memory, arguments of the wrong size)
//! cannot be returned from, so every call here is checked first: sizes against the model's, names
//! for what they name. Models are those whose hash is known.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use super::MujocoError;

/// `mjModel`, as MuJoCo knows it.
#[repr(C)]
struct RawModel {
    _opaque: [u8; 0],
}

/// `mjData`.
#[repr(C)]
struct RawData {
    _opaque: [u8; 0],
}

type Warn = extern "C" fn(*const c_char);

/// The functions used, as `mujoco.h` declares them.
struct Functions {
    load: unsafe extern "C" fn(*const c_char, *const c_void, *mut c_char, c_int) -> *mut RawModel,
    delete_model: unsafe extern "C" fn(*mut RawModel),
    make: unsafe extern "C" fn(*const RawModel) -> *mut RawData,
    delete_data: unsafe extern "C" fn(*mut RawData),
    reset: unsafe extern "C" fn(*const RawModel, *mut RawData),
    forward: unsafe extern "C" fn(*const RawModel, *mut RawData),
    step: unsafe extern "C" fn(*const RawModel, *mut RawData),
    size: unsafe extern "C" fn(*const RawModel, c_int) -> c_int,
    state: unsafe extern "C" fn(*const RawModel, *const RawData, *mut f64, c_int),
    set_state: unsafe extern "C" fn(*const RawModel, *mut RawData, *const f64, c_int),
    id: unsafe extern "C" fn(*const RawModel, c_int, *const c_char) -> c_int,
    jacobian: unsafe extern "C" fn(*const RawModel, *const RawData, *mut f64, *mut f64, c_int),
    #[rustfmt::skip]
    global: unsafe extern "C" fn(*mut RawData, *mut f64, *mut f64, *const f64, *const f64, c_int, u8),
}

/// MuJoCo's library, open.
pub struct Library {
    functions: Functions,
    version: String,
    // The functions are in it: it is closed last.
    _file: libloading::Library,
}

/// Models are loaded one at a time: MuJoCo keeps the last one for its own use.
static LOADING: Mutex<()> = Mutex::new(());

extern "C" fn ignore(_warning: *const c_char) {}

impl Library {
    /// Opens a library file.
    ///
    /// # Errors
    /// It is no MuJoCo, or one of a version that is not understood.
    pub fn open(path: &Path) -> Result<Arc<Self>, MujocoError> {
        let no = |error: libloading::Error| MujocoError::Library {
            path: path.into(),
            reason: error.to_string(),
        };
        // SAFETY: a library's initialisers run when it is opened; those of MuJoCo have no conditions,
        // and the file is one that its user chose or whose hash was checked.
        let file = unsafe { libloading::Library::new(path) }.map_err(no)?;
        // SAFETY: `const char* mj_versionString(void)` in every version.
        let version = unsafe {
            let said = file.get::<unsafe extern "C" fn() -> *const c_char>(b"mj_versionString\0");
            CStr::from_ptr(said.map_err(no)?()).to_string_lossy().into_owned()
        };
        if !understood(&version) {
            return Err(MujocoError::Version { path: path.into(), found: version });
        }
        // SAFETY: the types are those of `mujoco.h` in the versions that are understood.
        let functions = unsafe {
            Functions {
                load: *file.get(b"mj_loadXML\0").map_err(no)?,
                delete_model: *file.get(b"mj_deleteModel\0").map_err(no)?,
                make: *file.get(b"mj_makeData\0").map_err(no)?,
                delete_data: *file.get(b"mj_deleteData\0").map_err(no)?,
                reset: *file.get(b"mj_resetData\0").map_err(no)?,
                forward: *file.get(b"mj_forward\0").map_err(no)?,
                step: *file.get(b"mj_step\0").map_err(no)?,
                size: *file.get(b"mj_stateSize\0").map_err(no)?,
                state: *file.get(b"mj_getState\0").map_err(no)?,
                set_state: *file.get(b"mj_setState\0").map_err(no)?,
                id: *file.get(b"mj_name2id\0").map_err(no)?,
                jacobian: *file.get(b"mj_jacSite\0").map_err(no)?,
                global: *file.get(b"mj_local2Global\0").map_err(no)?,
            }
        };
        let _alone = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `void (*mju_user_warning)(const char*)` is a variable of the library; it is written
        // while no model is being loaded, always to the same value.
        unsafe {
            if let Ok(handler) = file.get::<*mut Option<Warn>>(b"mju_user_warning\0") {
                handler.write(Some(ignore));
            }
        }
        Ok(Arc::new(Self { functions, version, _file: file }))
    }

    /// Its version, such as `3.11.0`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Whether the functions used are those of this version: 3.5 to 4.
fn understood(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(3), Some(minor)) => minor >= 5,
        (Some(4), Some(_)) => true,
        _ => false,
    }
}

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A body.
    Body,
    /// A joint.
    Joint,
    /// A site.
    Site,
}

impl Kind {
    /// Its name in messages, and its number (`mjtObj`).
    fn code(self) -> (&'static str, c_int) {
        match self {
            Self::Body => ("body", 1),
            Self::Joint => ("joint", 3),
            Self::Site => ("site", 6),
        }
    }
}

/// A part of the state vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Time (s).
    Time,
    /// Positions of the joints (m, rad, quaternions).
    Positions,
    /// Speeds of the joints (m/s, rad/s).
    Speeds,
    /// What the actuators are told.
    Controls,
    /// Where the mocap bodies are (m).
    MocapPositions,
    /// How they are turned (quaternions).
    MocapRotations,
}

impl Part {
    /// Its name in messages, and its bit (`mjtState`).
    fn code(self) -> (&'static str, c_int) {
        match self {
            Self::Time => ("time", 1),
            Self::Positions => ("positions", 1 << 1),
            Self::Speeds => ("speeds", 1 << 2),
            Self::Controls => ("controls", 1 << 6),
            Self::MocapPositions => ("mocap positions", 1 << 10),
            Self::MocapRotations => ("mocap rotations", 1 << 11),
        }
    }
}

/// One model in motion.
pub struct Simulation {
    library: Arc<Library>,
    model: NonNull<RawModel>,
    data: NonNull<RawData>,
    /// Scratch: the Jacobians of a site, `[3, nv]` each, and the speeds `[nv]`.
    jacobians: [Vec<f64>; 2],
    speeds: Vec<f64>,
}

// SAFETY: model and data belong to this value alone, and MuJoCo ties neither to a thread.
unsafe impl Send for Simulation {}

impl Simulation {
    /// Loads a model file (MJCF), at its own default state.
    ///
    /// # Errors
    /// MuJoCo refuses it.
    pub fn load(library: &Arc<Library>, path: &Path) -> Result<Self, MujocoError> {
        let refused =
            |reason: &str| MujocoError::Load { path: PathBuf::from(path), reason: reason.into() };
        let file = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| refused("expected a path without a zero byte"))?;
        let mut reason = [0u8; 1024];
        let functions = &library.functions;
        let alone = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: path and buffer outlive the call, the length is the buffer's; no virtual files.
        let model = unsafe {
            let buffer = reason.as_mut_ptr().cast::<c_char>();
            (functions.load)(file.as_ptr(), std::ptr::null(), buffer, reason.len() as c_int)
        };
        drop(alone);
        let Some(model) = NonNull::new(model) else {
            let said = CStr::from_bytes_until_nul(&reason).unwrap_or_default();
            return Err(refused(&said.to_string_lossy()));
        };
        // SAFETY: the model was just made.
        let Some(data) = NonNull::new(unsafe { (functions.make)(model.as_ptr()) }) else {
            // SAFETY: the model was just made and nothing else refers to it.
            unsafe { (functions.delete_model)(model.as_ptr()) };
            return Err(refused("out of memory"));
        };
        let (jacobians, speeds) = ([Vec::new(), Vec::new()], Vec::new());
        let library = Arc::clone(library);
        let mut simulation = Self { library, model, data, jacobians, speeds };
        let joints = simulation.size(Part::Speeds);
        simulation.jacobians = [vec![0.0; 3 * joints], vec![0.0; 3 * joints]];
        simulation.speeds = vec![0.0; joints];
        Ok(simulation)
    }

    /// The number of a name.
    ///
    /// # Errors
    /// The model has none.
    pub fn id(&self, kind: Kind, name: &str) -> Result<Id, MujocoError> {
        let (word, code) = kind.code();
        let lacks = || MujocoError::Lacks { kind: word, name: name.into() };
        let text = CString::new(name).map_err(|_| lacks())?;
        // SAFETY: the text outlives the call.
        let id = unsafe { (self.library.functions.id)(self.model.as_ptr(), code, text.as_ptr()) };
        let index = usize::try_from(id).map_err(|_| lacks())?;
        Ok(Id { kind, id, index, model: self.model.as_ptr().addr() })
    }

    fn knows(&self, id: Id, kind: Kind) -> Result<(), MujocoError> {
        let lacks = || MujocoError::Lacks { kind: kind.code().0, name: format!("{id:?}") };
        let own = id.kind == kind && id.model == self.model.as_ptr().addr();
        if own { Ok(()) } else { Err(lacks()) }
    }

    /// Numbers of a part of the state.
    pub fn size(&self, part: Part) -> usize {
        // SAFETY: the bit is one that every version knows.
        let size = unsafe { (self.library.functions.size)(self.model.as_ptr(), part.code().1) };
        usize::try_from(size).unwrap_or(0)
    }

    /// Reads a part of the state.
    ///
    /// # Errors
    /// `to` is not as long as the part.
    pub fn read(&self, part: Part, to: &mut [f64]) -> Result<(), MujocoError> {
        self.fits(part, to.len())?;
        let (model, data, code) = (self.model.as_ptr(), self.data.as_ptr(), part.code().1);
        // SAFETY: `to` holds as many numbers as will be written.
        unsafe { (self.library.functions.state)(model, data, to.as_mut_ptr(), code) };
        Ok(())
    }

    /// Writes a part of the state.
    ///
    /// # Errors
    /// `from` is not as long as the part.
    pub fn write(&mut self, part: Part, from: &[f64]) -> Result<(), MujocoError> {
        self.fits(part, from.len())?;
        let (model, data, code) = (self.model.as_ptr(), self.data.as_ptr(), part.code().1);
        // SAFETY: `from` holds as many numbers as will be read.
        unsafe { (self.library.functions.set_state)(model, data, from.as_ptr(), code) };
        Ok(())
    }

    fn fits(&self, part: Part, found: usize) -> Result<(), MujocoError> {
        let expected = self.size(part);
        let error = MujocoError::Count { part: part.code().0, expected, found };
        if expected == found { Ok(()) } else { Err(error) }
    }

    /// Everything as the model says at its beginning, warm starts and controls included.
    pub fn reset(&mut self) {
        // SAFETY: both are this simulation's.
        unsafe { (self.library.functions.reset)(self.model.as_ptr(), self.data.as_ptr()) };
    }

    /// Works out what follows from the state, without moving on.
    pub fn forward(&mut self) {
        // SAFETY: both are this simulation's.
        unsafe { (self.library.functions.forward)(self.model.as_ptr(), self.data.as_ptr()) };
    }

    /// Moves on by `count` of the model's time steps.
    pub fn step(&mut self, count: usize) {
        for _ in 0..count {
            // SAFETY: both are this simulation's.
            unsafe { (self.library.functions.step)(self.model.as_ptr(), self.data.as_ptr()) };
        }
    }

    /// Where a point of a body is (m), and how the body is turned (a matrix by rows), as they were
    /// last worked out: at the beginning of the last step, or by [`forward`](Self::forward).
    ///
    /// # Errors
    /// It is no body.
    pub fn place(&self, body: Id, point: [f64; 3]) -> Result<([f64; 3], [f64; 9]), MujocoError> {
        self.knows(body, Kind::Body)?;
        let (mut place, mut turn) = ([0.0; 3], [0.0; 9]);
        let upright = [1.0, 0.0, 0.0, 0.0];
        // SAFETY: the arrays have the lengths that `mj_local2Global` declares, and the body is one
        // of this model; it writes to the arrays only.
        unsafe {
            (self.library.functions.global)(
                self.data.as_ptr(),
                place.as_mut_ptr(),
                turn.as_mut_ptr(),
                point.as_ptr(),
                upright.as_ptr(),
                body.id,
                0,
            );
        }
        Ok((place, turn))
    }

    /// The speeds of a site (m/s) and of its turning (rad/s): the Jacobian as last worked out, times
    /// the speeds of now.
    ///
    /// # Errors
    /// It is no site.
    pub fn speed(&mut self, site: Id) -> Result<[[f64; 3]; 2], MujocoError> {
        self.knows(site, Kind::Site)?;
        let mut speeds = std::mem::take(&mut self.speeds);
        let read = self.read(Part::Speeds, &mut speeds);
        self.speeds = speeds;
        read?;
        let [moves, turns] = &mut self.jacobians;
        let (model, data) = (self.model.as_ptr(), self.data.as_ptr());
        // SAFETY: both matrices are `[3, nv]`, and the site is one of this model.
        unsafe {
            let (moves, turns) = (moves.as_mut_ptr(), turns.as_mut_ptr());
            (self.library.functions.jacobian)(model, data, moves, turns, site.id);
        }
        Ok([&*moves, &*turns].map(|jacobian| {
            let mut rows = jacobian.chunks_exact(self.speeds.len().max(1));
            [(); 3].map(|()| {
                let row = rows.next().unwrap_or_default();
                row.iter().zip(&self.speeds).map(|(j, v)| j * v).sum()
            })
        }))
    }

    /// Whether the state is no longer finite, or MuJoCo began anew since `before` (s).
    ///
    /// # Errors
    /// It has.
    pub fn diverged(&mut self, before: f64) -> Result<(), MujocoError> {
        let mut time = [0.0];
        self.read(Part::Time, &mut time)?;
        let mut speeds = std::mem::take(&mut self.speeds);
        let read = self.read(Part::Speeds, &mut speeds);
        self.speeds = speeds;
        read?;
        // Positions that are not finite make MuJoCo begin anew within a step.
        let sound = time[0] > before && self.speeds.iter().all(|speed| speed.is_finite());
        if sound { Ok(()) } else { Err(MujocoError::Diverged { time: before }) }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        // SAFETY: both were made by this library, are this simulation's alone and end here.
        unsafe {
            (self.library.functions.delete_data)(self.data.as_ptr());
            (self.library.functions.delete_model)(self.model.as_ptr());
        }
    }
}

/// The number of a named part of a model; refused by every simulation but the one that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    kind: Kind,
    id: c_int,
    index: usize,
    /// The address of the model, which no other one has while this one lasts.
    model: usize,
}

impl Id {
    /// Its place among those of its kind, from 0.
    pub fn index(self) -> usize {
        self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_with_these_functions_are_understood() {
        for version in ["3.5.0", "3.11.0", "3.17.1", "4.0.0"] {
            assert!(understood(version), "{version}");
        }
        for version in ["2.3.7", "3.4.9", "3.0.0", "5.0.0", "", "3", "x.y", "3.x"] {
            assert!(!understood(version), "{version}");
        }
    }

    #[test]
    fn a_file_that_is_no_mujoco_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("libmujoco.so");
        std::fs::copy("Cargo.toml", &text).unwrap();
        for path in [folder.path().join("missing.so"), text, "libc.so.6".into()] {
            let error = Library::open(&path).err().expect("refused").to_string();
            assert!(error.contains("is no MuJoCo library"), "{error}");
            assert!(error.contains("regoal runtime install --mujoco"), "{error}");
        }
    }
}
