//! Figures as bars: an SVG without scripts, styles or fonts of its own, in colours that stand out on white and on black.

use std::fmt::Write as _;

/// Bars under one title.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::bench) struct Chart {
    pub(super) title: String,
    /// What the bars are.
    pub(super) bar: &'static str,
    /// What the marks are.
    pub(super) mark: &'static str,
    pub(super) bars: Vec<Bar>,
}

/// A figure, and what it is seen beside.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) mark: Option<f64>,
}

const WIDTH: f64 = 720.0;
/// Room of the labels, and of the numbers behind the bars.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const LINE: f64 = 22.0;
const BAR: f64 = 14.0;
/// Room of a chart's title and of its legend.
const HEAD: f64 = 48.0;
const INKS: [&str; 2] = ["#2f7fd6", "#c2620e"];

/// All charts, one below the other.
pub(super) fn draw(charts: &[Chart]) -> String {
    let (mut body, mut top) = (String::new(), 8.0);
    for chart in charts {
        top += chart.draw(top, &mut body);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" height=\"{top}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"currentColor\">\n{body}</svg>\n"
    )
}

impl Chart {
    /// Draws it from `top` on; returns how high it is.
    fn draw(&self, top: f64, out: &mut String) -> f64 {
        let [bar_ink, mark_ink] = INKS;
        line(
            out,
            0.0,
            top + 14.0,
            "start",
            &format!("<tspan font-weight=\"bold\">{}</tspan>", plain(&self.title)),
        );
        let legend = format!(
            "<tspan fill=\"{bar_ink}\">■</tspan> {}  <tspan fill=\"{mark_ink}\">▎</tspan> {}",
            plain(self.bar),
            plain(self.mark)
        );
        line(out, 0.0, top + 34.0, "start", &legend);
        let values = self.bars.iter().flat_map(|bar| [Some(bar.value), bar.mark]).flatten();
        let most = values.fold(0.0, f64::max);
        let wide =
            |value: f64| if most > 0.0 { value / most * (WIDTH - LEFT - RIGHT) } else { 0.0 };
        for (number, bar) in self.bars.iter().enumerate() {
            let y = top + HEAD + number as f64 * LINE;
            line(out, LEFT - 8.0, y + 11.0, "end", &plain(&bar.label));
            rectangle(out, LEFT, y, wide(bar.value), bar_ink);
            let end = bar.mark.into_iter().fold(bar.value, f64::max);
            if let Some(mark) = bar.mark {
                rectangle(out, LEFT + wide(mark) - 1.0, y, 2.0, mark_ink);
            }
            line(out, LEFT + wide(end) + 6.0, y + 11.0, "start", &number_of(bar.value));
        }
        HEAD + self.bars.len() as f64 * LINE + 16.0
    }
}

fn line(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn rectangle(out: &mut String, x: f64, y: f64, width: f64, ink: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{ink}\"/>"
    );
}

/// With as many digits as say something.
fn number_of(value: f64) -> String {
    let digits = if value >= 100.0 { 0 } else { 2 };
    format!("{value:.digits$}")
}

fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let bar = |label: &str, value, mark| Bar { label: label.to_owned(), value, mark };
        Chart {
            title: "drain & <loop>".to_owned(),
            bar: "service/s",
            mark: "producer/s",
            bars: vec![bar("table", 50.0, Some(100.0)), bar("log", 220.0, None)],
        }
    }

    #[test]
    fn the_longest_reaches_the_edge_and_the_others_are_in_proportion() {
        let drawn = draw(&[chart()]);
        assert!(drawn.contains("width=\"440.0\" height=\"14\" fill=\"#2f7fd6\""), "{drawn}");
        assert!(drawn.contains("width=\"100.0\" height=\"14\" fill=\"#2f7fd6\""), "{drawn}");
        // The mark of 100: 200 wide.
        assert!(drawn.contains("<rect x=\"389.0\" y=\"56.0\" width=\"2.0\""), "{drawn}");
        assert_eq!(drawn.matches("<rect").count(), 3, "{drawn}");
    }

    #[test]
    fn texts_are_no_markup_and_charts_stand_below_each_other() {
        let two = draw(&[chart(), chart()]);
        assert!(two.contains("drain &amp; &lt;loop&gt;") && !two.contains("<loop>"), "{two}");
        let height = |drawn: &str| {
            let (_, rest) = drawn.split_once("height=\"")?;
            rest.split('"').next()?.parse::<f64>().ok()
        };
        let (one, two) = (height(&draw(&[chart()])), height(&two));
        assert_eq!((one, two), (Some(116.0), Some(224.0)));
    }

    #[test]
    fn nothing_is_no_bar() {
        let bars = vec![Bar { label: "log".to_owned(), value: 0.0, mark: None }];
        assert!(draw(&[Chart { bars, ..chart() }]).contains("width=\"0.0\""));
    }
}
