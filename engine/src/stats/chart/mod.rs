//! The trend as pictures: SVG drawn here with plotters, without scripts, styles or fonts of its own.
//!
//! plotters knows colours only, so each line and the frame are drawn in a marker colour, which is then replaced by
//! a class and a colour that stands out on white and on black alike; texts and grid take the page's own colour.

mod units;

use std::fmt::Write;
use std::ops::Range;
use std::str::FromStr;

use common::clock::Timestamp;
use plotters::prelude::{
    ChartBuilder, DrawingArea, IntoDrawingArea, IntoTextStyle, LineSeries, RGBColor, SVGBackend,
    ShapeStyle,
};
use thiserror::Error;

use super::trend::{TrendPoint, Window};
use units::{Axis, Unit, clock, seconds_of, steps};

const WIDTH: u32 = 640;
/// The height of the legend, and of each of the panels below it.
const LEGEND: u32 = 24;
const PANEL: u32 = 196;
/// Room of the labels on the left and below.
const LEFT: u32 = 64;
const BELOW: u32 = 24;
/// plotters divides sizes of texts by 1.24; this makes 12 pixels.
const TEXT: f64 = 15.0;
/// The colour that plotters draws texts in, before it is replaced.
const TEXT_MARK: RGBColor = RGBColor(0, 1, 1);
/// The same for the grid.
const GRID_MARK: RGBColor = RGBColor(0, 1, 2);
/// Colours with a contrast of at least 3 to white and to black.
const INKS: [&str; 3] = ["#2f7fd6", "#c2620e", "#8a63d2"];
/// Missing that many steps, a line is broken.
const GAP_STEPS: f64 = 4.0;

/// A chart that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chart {
    /// What comes in and what is answered.
    Throughput,
    /// How long events take.
    Latency,
    /// What waits, and for how long.
    Backlog,
    /// Attempts, and those that failed.
    Failures,
}

impl Chart {
    /// All of them, in the order of a page.
    pub const ALL: [Self; 4] = [Self::Throughput, Self::Latency, Self::Backlog, Self::Failures];

    /// As written in addresses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Backlog => "backlog",
            Self::Failures => "failures",
        }
    }

    /// What it shows, in words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Throughput => "Throughput",
            Self::Latency => "Latency from the commit on",
            Self::Backlog => "Backlog",
            Self::Failures => "Attempts and failures",
        }
    }

    fn panels(self, points: &[TrendPoint]) -> Vec<Panel> {
        let line = |label, ink, value: fn(&TrendPoint) -> Option<f64>| Line {
            label,
            ink,
            dashed: false,
            values: points.iter().map(|point| (seconds_of(point.at), value(point))).collect(),
        };
        match self {
            Self::Throughput => vec![Panel::new(
                Unit::PerSecond,
                vec![
                    line("committed", 0, |point| Some(point.rates.committed)),
                    line("acknowledged", 1, |point| Some(point.rates.acknowledged)).dashed(),
                ],
            )],
            Self::Latency => vec![Panel::new(
                Unit::LogSeconds,
                vec![
                    line("sent p50", 0, |point| Some(point.commit_to_sent?.p50)),
                    line("p99", 0, |point| Some(point.commit_to_sent?.p99)).dashed(),
                    line("applied p50", 1, |point| Some(point.commit_to_applied?.p50)),
                    line("p99", 1, |point| Some(point.commit_to_applied?.p99)).dashed(),
                    line("acknowledged p50", 2, |point| Some(point.commit_to_acknowledged?.p50)),
                    line("p99", 2, |point| Some(point.commit_to_acknowledged?.p99)).dashed(),
                ],
            )],
            Self::Backlog => vec![
                Panel::new(
                    Unit::Events,
                    vec![
                        line("waiting", 0, |point| Some(point.waiting as f64)),
                        line("exhausted", 1, |point| Some(point.exhausted as f64)).dashed(),
                    ],
                ),
                Panel::new(
                    Unit::Seconds,
                    vec![line("age of the oldest", 2, |point| Some(point.oldest_seconds))],
                ),
            ],
            Self::Failures => vec![Panel::new(
                Unit::PerSecond,
                vec![
                    line("attempts", 0, |point| Some(point.rates.sent)),
                    line("failures", 1, |point| Some(point.rates.failed)).dashed(),
                ],
            )],
        }
    }
}

impl FromStr for Chart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|chart| chart.name() == text);
        named.ok_or("there are throughput, latency, backlog and failures")
    }
}

/// A chart that could not be drawn: a flaw of this program.
#[derive(Debug, Error)]
#[error("a chart can't be drawn: {0}")]
pub struct ChartError(String);

fn flawed(error: impl std::fmt::Display) -> ChartError {
    ChartError(error.to_string())
}

/// Values over time; `None` breaks the line.
struct Line {
    label: &'static str,
    ink: usize,
    dashed: bool,
    values: Vec<(f64, Option<f64>)>,
}

struct Panel {
    unit: Unit,
    lines: Vec<Line>,
}

impl Line {
    fn dashed(mut self) -> Self {
        self.dashed = true;
        self
    }

    /// The pieces without a gap, in the coordinates of `unit`.
    fn pieces(&self, unit: Unit, longest_gap: f64) -> Vec<Vec<(f64, f64)>> {
        let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut last = None;
        for (at, value) in &self.values {
            let Some(value) = value else {
                last = None;
                continue;
            };
            let spot = (*at, unit.place(*value));
            match (last.is_some_and(|last| at - last <= longest_gap), pieces.last_mut()) {
                (true, Some(piece)) => piece.push(spot),
                _ => pieces.push(vec![spot]),
            }
            last = Some(*at);
        }
        // A single spot is drawn as a line to itself, which shows as a dot.
        for piece in pieces.iter_mut().filter(|piece| piece.len() == 1) {
            piece.extend_from_within(..);
        }
        pieces
    }
}

impl Panel {
    fn new(unit: Unit, lines: Vec<Line>) -> Self {
        Self { unit, lines }
    }

    /// The range of the values and where it is labelled.
    fn scale(&self) -> (Range<f64>, Vec<f64>) {
        let values = self.lines.iter().flat_map(|line| &line.values);
        let places: Vec<f64> =
            values.filter_map(|(_, value)| value.map(|value| self.unit.place(value))).collect();
        let highest = places.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lowest = places.iter().copied().fold(f64::INFINITY, f64::min);
        self.unit.scale(lowest, highest)
    }
}

/// Draws `chart` of `points` (as [`super::points`] gives them), to be put into a page.
///
/// # Errors
/// When plotters refuses, which would be a flaw of this program.
pub fn chart(chart: Chart, points: &[TrendPoint], window: Window) -> Result<String, ChartError> {
    let Some(newest) = points.last() else {
        return Ok(empty(chart, window));
    };
    let panels = chart.panels(points);
    let height = LEGEND + PANEL * u32::try_from(panels.len()).unwrap_or(1);
    let end = seconds_of(newest.at);
    let times = end - window.length().as_secs_f64()..end;
    let mut drawn = String::new();
    draw(&mut drawn, height, &panels, &times, window)?;
    let body = drawn.split_once('\n').map_or("", |(_, body)| body);
    let lines = panels.iter().flat_map(|panel| &panel.lines).enumerate();
    let body = lines.fold(recoloured(body), |body, (index, line)| inked(&body, index, line));
    Ok(format!(
        "{}{}{body}",
        opening(chart, window, height, &in_words(&panels, newest.at)),
        legend(&panels)
    ))
}

fn draw(
    drawn: &mut String,
    height: u32,
    panels: &[Panel],
    times: &Range<f64>,
    window: Window,
) -> Result<(), ChartError> {
    let area = SVGBackend::with_string(drawn, (WIDTH, height)).into_drawing_area();
    let (_, mut rest) = area.split_vertically(LEGEND);
    let mut first_line = 0;
    for panel in panels {
        let (own, below) = rest.split_vertically(PANEL);
        draw_panel(&own, panel, first_line, times, window)?;
        first_line += panel.lines.len();
        rest = below;
    }
    area.present().map_err(flawed)
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    panel: &Panel,
    first_line: usize,
    times: &Range<f64>,
    window: Window,
) -> Result<(), ChartError> {
    let (values, labels) = panel.scale();
    let text = ("sans-serif", TEXT, &TEXT_MARK).into_text_style(area);
    let mut chart = ChartBuilder::on(area)
        .margin_top(26)
        .margin_right(20)
        .x_label_area_size(BELOW)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(
            Axis { range: times.clone(), labels: full_hours(times, window) },
            Axis { range: values, labels },
        )
        .map_err(flawed)?;
    chart
        .configure_mesh()
        .axis_style(GRID_MARK)
        .bold_line_style(GRID_MARK)
        .light_line_style(plotters::style::TRANSPARENT)
        .label_style(text)
        .x_label_formatter(&|seconds| clock(*seconds, "%H:%M"))
        .y_label_formatter(&|place| panel.unit.label(*place))
        .draw()
        .map_err(flawed)?;
    let longest_gap = (GAP_STEPS * window.step().as_secs_f64()).max(GAP_STEPS * 15.0);
    for (index, line) in panel.lines.iter().enumerate() {
        let style =
            ShapeStyle { color: mark(first_line + index).into(), filled: false, stroke_width: 2 };
        for piece in line.pieces(panel.unit, longest_gap) {
            chart.draw_series(LineSeries::new(piece, style)).map_err(flawed)?;
        }
    }
    Ok(())
}

/// Five to eight moments that a clock on the wall would show.
fn full_hours(times: &Range<f64>, window: Window) -> Vec<f64> {
    let step = match window {
        Window::Minutes15 => 180.0,
        Window::Hour => 600.0,
        Window::Hours6 => 3_600.0,
        Window::Day => 4.0 * 3_600.0,
    };
    let first = (times.start / step).ceil() * step;
    steps(first, (times.end / step).floor() * step, step)
}

/// The marker colour of a line.
fn mark(index: usize) -> RGBColor {
    RGBColor(0, 0, u8::try_from(index + 1).unwrap_or(u8::MAX))
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Texts and grid in the page's own colour.
fn recoloured(svg: &str) -> String {
    let text = format!("fill=\"{}\"", hex(TEXT_MARK));
    let grid = format!("stroke=\"{}\"", hex(GRID_MARK));
    svg.replace(&text, "fill=\"currentColor\"")
        .replace(&grid, "class=\"chart-grid\" stroke=\"currentColor\" stroke-opacity=\"0.2\"")
}

/// The line `index` in its ink.
fn inked(svg: &str, index: usize, line: &Line) -> String {
    svg.replace(&format!("stroke=\"{}\"", hex(mark(index))), &stroke(line))
}

fn stroke(line: &Line) -> String {
    let ink = INKS[line.ink % INKS.len()];
    let dashes = if line.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
    let class = line.ink + 1;
    format!(
        "class=\"chart-line chart-line-{class}\" stroke=\"{ink}\" stroke-linecap=\"round\"{dashes}"
    )
}

/// The opening tag with what the picture says, for whoever does not see it.
fn opening(chart: Chart, window: Window, height: u32, words: &str) -> String {
    let (name, title, length) = (chart.name(), chart.title(), window.name());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"chart-{name}-title chart-{name}-desc\">\n\
         <title id=\"chart-{name}-title\">{title}, the last {length}, times in UTC</title>\n\
         <desc id=\"chart-{name}-desc\">{words}</desc>\n"
    )
}

/// The newest values in words.
fn in_words(panels: &[Panel], at: Timestamp) -> String {
    let mut words = format!("At {} UTC:", clock(seconds_of(at), "%H:%M:%S"));
    for panel in panels {
        let mut stage = "";
        for line in &panel.lines {
            // The second of two lines of one stage has only its quantile as a label.
            let label = match line.label {
                "p99" => format!("{stage} p99"),
                label => label.to_owned(),
            };
            stage = line.label.trim_end_matches(" p50");
            let newest = line.values.last().and_then(|(_, value)| *value);
            let value = newest.map_or("nothing new".to_owned(), |value| panel.unit.words(value));
            // Writing into a String can't fail.
            let _ = write!(words, " {label} {value},");
        }
    }
    format!("{}.", words.trim_end_matches(','))
}

/// The names of the lines above the panels, and each panel's unit.
fn legend(panels: &[Panel]) -> String {
    let mut svg = "<g class=\"chart-legend\" font-family=\"sans-serif\" font-size=\"12\" fill=\"currentColor\">\n"
        .to_owned();
    let mut x = 8;
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"12\" x2=\"{}\" y2=\"12\" stroke-width=\"2\" {}/><text x=\"{}\" y=\"16\">{}</text>",
            x + 20,
            stroke(line),
            x + 26,
            line.label
        );
        x += 44 + 7 * line.label.len();
    }
    for (index, panel) in panels.iter().enumerate() {
        let top = LEGEND + PANEL * u32::try_from(index).unwrap_or(0);
        let _ = writeln!(svg, "<text x=\"8\" y=\"{}\">{}</text>", top + 12, panel.unit.caption());
        let _ = writeln!(svg, "<text x=\"8\" y=\"{}\">UTC</text>", top + PANEL - 8);
    }
    svg + "</g>\n"
}

fn empty(chart: Chart, window: Window) -> String {
    let height = LEGEND + PANEL;
    let words = "no data yet, a point comes every 10 s";
    format!(
        "{}<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"14\" \
         fill=\"currentColor\">{words}</text>\n</svg>\n",
        opening(chart, window, height, words),
        WIDTH / 2,
        height / 2
    )
}
