//! The look into containers against files that ffmpeg makes, files made by hand to deceive it, and
//! noise. ffmpeg is named by `KINORA_FFMPEG` or found on the PATH.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod ffmpeg;
mod handmade;
mod made;
mod noise;
mod run;
