//! Fills a template: `{{name}}` is a value, and a line `{{> name}}` is a part, indented as the line is.
//! `{{> name key=value}}` also sets a value for that part. A line `{{>? name}}` is the part that the value `name`
//! chooses, or nothing if that is empty.
//!
//! Values are put in verbatim: they arrive as finished YAML. A value of several lines gets the
//! indentation of its line; an empty one that is alone on its line leaves no line.

use std::collections::BTreeMap;

use crate::RenderError;

pub(crate) type Values = BTreeMap<&'static str, String>;

/// `template` with its parts and values put in.
pub(crate) fn fill(
    template: &'static str,
    part: &dyn Fn(&str) -> Option<&'static str>,
    values: &Values,
) -> Result<String, RenderError> {
    let mut out = String::with_capacity(template.len() * 2);
    for line in template.lines() {
        let content = line.trim_start();
        let indent = line.strip_suffix(content).unwrap_or_default();
        if let Some(opened) = placeholder(content, "{{> ") {
            let mut words = opened.split(' ');
            let name = words.next().unwrap_or_default();
            let mut own = values.clone();
            own.extend(
                words.filter_map(|word| word.split_once('=')).map(|(key, value)| (key, value.to_owned())),
            );
            push_indented(&mut out, indent, &fill(named(name, part)?, part, &own)?);
        } else if let Some(name) = placeholder(content, "{{>? ") {
            let chosen = values.get(name).ok_or_else(|| RenderError::Template(name.into()))?;
            if !chosen.is_empty() {
                push_indented(&mut out, indent, &fill(named(chosen, part)?, part, values)?);
            }
        } else {
            let text = substitute(content, values)?;
            if !text.is_empty() || content.is_empty() {
                push_indented(&mut out, indent, &text);
            }
        }
    }
    Ok(out)
}

fn placeholder<'a>(content: &'a str, opening: &str) -> Option<&'a str> {
    content.strip_prefix(opening)?.strip_suffix("}}")
}

fn named(name: &str, part: &dyn Fn(&str) -> Option<&'static str>) -> Result<&'static str, RenderError> {
    part(name).ok_or_else(|| RenderError::Template(name.into()))
}

fn push_indented(out: &mut String, indent: &str, text: &str) {
    for line in text.lines() {
        if !line.is_empty() {
            out.push_str(indent);
            out.push_str(line);
        }
        out.push('\n');
    }
    if text.is_empty() {
        out.push('\n');
    }
}

fn substitute(line: &str, values: &Values) -> Result<String, RenderError> {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, tail) = after.split_once("}}").ok_or_else(|| RenderError::Template(after.into()))?;
        out.push_str(before);
        out.push_str(values.get(name).ok_or_else(|| RenderError::Template(name.into()))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &'static str, expected: Result<&str, &str>) {
        let part = |name: &str| (name == "p").then_some("one: {{v}}\n  two: 2\n");
        let values = Values::from([
            ("v", "x".to_owned()),
            ("none", String::new()),
            ("some", "p".into()),
            ("many", "- a\n- b".to_owned()),
        ]);
        let filled = fill(template, &part, &values);
        assert_eq!(
            filled.as_deref(),
            expected.map_err(|name| RenderError::Template(name.into())).as_ref().map(|s| *s)
        );
    }

    #[test]
    fn parts_and_values_take_the_indentation_of_their_line() {
        check("a:\n  {{> p}}\nb: {{v}}\n", Ok("a:\n  one: x\n    two: 2\nb: x\n"));
        check("a:\n  {{many}}\n", Ok("a:\n  - a\n  - b\n"));
        check("a:\n{{>? none}}\nb:\n", Ok("a:\nb:\n"));
        check("{{> p v=own}}\n{{v}}\n", Ok("one: own\n  two: 2\nx\n"));
        check("a:\n{{none}}\n\nb:\n", Ok("a:\n\nb:\n"));
        check("{{>? some}}\n", Ok("one: x\n  two: 2\n"));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        check("a: {{nope}}\n", Err("nope"));
        check("{{> nope}}\n", Err("nope"));
    }
}
