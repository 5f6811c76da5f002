//! JSON as people read it: indented, with every number as it was written.

/// Indents JSON; a text that is none is only spread over lines.
pub(super) fn pretty(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            text.push(c);
            (in_string, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                text.push(c);
            }
            '{' | '[' => {
                while rest.next_if(|next| next.is_whitespace()).is_some() {}
                text.push(c);
                match rest.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                new_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c if c.is_whitespace() => {}
            c => text.push(c),
        }
    }
    text
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn digits_and_strings_stay_as_they_were() {
        let json = r#"{"a":2.550,"b":[1,{"c":"x, {y}: \"z\\"}],"d":{ },"e":[]}"#;
        let shown = "{\n  \"a\": 2.550,\n  \"b\": [\n    1,\n    {\n      \"c\": \"x, {y}: \\\"z\\\\\"\n    }\n  ],\n  \
                     \"d\": {},\n  \"e\": []\n}";
        assert_eq!(pretty(json), shown);
    }
}
