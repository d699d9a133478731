//! A small plot in SVG: lines over two logarithmic axes.

use std::fmt::Write as _;

/// One line of it.
pub struct Line {
    pub name: String,
    /// Both above zero.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const BELOW: f64 = 50.0;
const RIGHT: f64 = 150.0;
/// Told apart in grey, too.
const COLOURS: [&str; 4] = ["#1b6ca8", "#c8553d", "#3d8b40", "#7a5195"];

/// The picture: a title, what is along the axis below, and the lines.
pub fn plot(title: &str, below: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let decades = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0))
    };
    let (x0, x1) = decades(&mut all().map(|(x, _)| *x));
    let (y0, y1) = decades(&mut all().map(|(_, y)| *y));
    let x = |value: f64| LEFT + (value.log10() - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BELOW - (value.log10() - y0) / (y1 - y0) * (HEIGHT - TOP - BELOW);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{title}</text>\n"
    );
    let decade = |from: f64, to: f64| (from as i32..=to as i32).map(|power| 10_f64.powi(power));
    for value in decade(x0, x1) {
        let (at, foot) = (x(value), HEIGHT - BELOW);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {TOP}V{foot}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            foot + 18.0
        );
    }
    for value in decade(y0, y1) {
        let at = y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{below}</text>",
        LEFT.midpoint(WIDTH - RIGHT),
        HEIGHT - 10.0
    );
    for (nth, line) in lines.iter().enumerate() {
        let colour = COLOURS[nth % COLOURS.len()];
        let path: Vec<String> =
            line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{}\"/>",
            path.join(" "),
            ["none", "6 3", "2 2", "8 2 2 2"][nth % 4]
        );
        for (a, b) in &line.points {
            let _ =
                writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*a), y(*b));
        }
        if let Some((a, b)) = line.points.last() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
                x(*a) + 8.0,
                y(*b) + 4.0,
                line.name
            );
        }
    }
    out + "</svg>\n"
}
