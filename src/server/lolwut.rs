//! What LOLWUT draws: a Julia set in characters, for a constant near the border of the Mandelbrot set, where they are at
//! their best.

use std::fmt::Write;

use super::command_line::VALKEY_VERSION;
use crate::base::number::{parse_f64, parse_i64};
use crate::command::Args;
use crate::protocol::ErrorReply;

const COLUMNS: i64 = 80;
const ROWS: i64 = 40;
const MOST_COLUMNS: i64 = 160;
const MOST_ROWS: i64 = 80;
/// From "leaves at once" to "stays".
const SHADES: &[u8] = b" .:-=+*%#&@";
const STEPS: usize = 60;

/// The answer to LOLWUT, its arguments without the name.
pub fn answer(args: &Args<'_>) -> Result<String, ErrorReply> {
    let (version, args) = match args {
        [word, version, rest @ ..] if word.eq_ignore_ascii_case(b"version") => (integer(version)?, rest),
        _ => (9, args),
    };
    // Each version that had an idea of its own drew another one; this is the ninth's.
    if version != 9 {
        return Ok(format!("Valkey ver.{VALKEY_VERSION}\n"));
    }
    let (columns, rows, constant) = match args {
        [] => (COLUMNS, ROWS, None),
        [columns, rows] => (integer(columns)?, integer(rows)?, None),
        [columns, rows, real, imaginary] => {
            let number = |text| parse_f64(text).ok_or(ErrorReply::NOT_A_FLOAT);
            (integer(columns)?, integer(rows)?, Some((number(real)?, number(imaginary)?)))
        }
        _ => return Err(ErrorReply::new("ERR Syntax error. Use: LOLWUT [columns rows] [real imaginary]")),
    };
    let constant = constant.unwrap_or_else(|| {
        let angle = fastrand::f64() * std::f64::consts::TAU;
        let radius = 0.65 + fastrand::f64() * 0.35;
        (angle.cos() * radius, angle.sin() * radius)
    });
    Ok(julia(columns.clamp(1, MOST_COLUMNS) as usize, rows.clamp(1, MOST_ROWS) as usize, constant))
}

fn integer(text: &[u8]) -> Result<i64, ErrorReply> {
    parse_i64(text).ok_or(ErrorReply::NOT_AN_INTEGER)
}

fn julia(columns: usize, rows: usize, constant: (f64, f64)) -> String {
    let mut drawing = String::with_capacity((columns + 1) * rows + 128);
    let place = |index: usize, count: usize| (index as f64 + 0.5) / count as f64 * 4.0 - 2.0;
    for row in 0..rows {
        for column in 0..columns {
            let steps = steps_until_gone((place(column, columns), place(row, rows)), constant);
            let shade = (steps as f64 / STEPS as f64).sqrt() * (SHADES.len() - 1) as f64;
            drawing.push(SHADES[shade as usize] as char);
        }
        drawing.push('\n');
    }
    let (real, imaginary) = constant;
    // Writing to a String cannot fail.
    let _ = write!(
        drawing,
        "Ascii representation of Julia set with constant {real:.2} + {imaginary:.2}i\nDon't forget to have fun! \
         Valkey ver. {VALKEY_VERSION}\n"
    );
    drawing
}

/// How often z² + c can be taken before z is far away.
fn steps_until_gone((mut x, mut y): (f64, f64), (real, imaginary): (f64, f64)) -> usize {
    (0..STEPS)
        .take_while(|_| {
            (x, y) = (x * x - y * y + real, 2.0 * x * y + imaginary);
            x * x + y * y <= 4.0
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_have_the_size_asked_for() {
        let drawing = answer(&[b"20", b"10", b"0.3", b"0.5"]).expect("a drawing");
        let lines: Vec<&str> = drawing.lines().collect();
        assert_eq!(lines.len(), 12);
        assert!(lines[..10].iter().all(|line| line.len() == 20), "{drawing}");
        assert_eq!(lines[10], "Ascii representation of Julia set with constant 0.30 + 0.50i");
        assert!(lines[..10].iter().any(|line| line.contains('@')), "{drawing}");
        let huge = answer(&[b"VERSION", b"9", b"99999999999", b"-5", b"nan"]);
        assert!(huge.is_err());
        let narrow = answer(&[b"version", b"9", b"-5", b"99999999999"]).expect("a drawing");
        assert_eq!(narrow.lines().count(), MOST_ROWS as usize + 2);
    }

    #[test]
    fn other_versions_say_their_number() {
        assert!(answer(&[b"VERSION", b"7"]).is_ok_and(|text| text.starts_with("Valkey ver.")));
        assert_eq!(answer(&[b"VERSION", b"x"]), Err(ErrorReply::NOT_AN_INTEGER));
        assert!(answer(&[b"20"]).is_err());
    }
}
