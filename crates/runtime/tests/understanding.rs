//! Everyday prompts, read by the shipped model: what they are taken for, and what is said to be unknown.

mod support;

use std::path::{Path, PathBuf};

use kinora_runtime::understanding::{Choice, Understood};
use kinora_runtime::{CancelToken, VideoPipeline, WeightFormat};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pipeline() -> VideoPipeline {
    // The first entry is the CPU; the next is the first adapter with the kernels for software adapters.
    let (_, device, _) = &support::devices()[1];
    VideoPipeline::load(device.clone(), &root().join("models/flipbook"), WeightFormat::F16).expect("the shipped model loads")
}

fn understood(pipeline: &VideoPipeline, prompts: &[&str], choice: Choice) -> Vec<Understood> {
    let prompts: Vec<_> = prompts.iter().map(|prompt| (*prompt, choice)).collect();
    let understood = pollster::block_on(pipeline.understand(&prompts, &CancelToken::default())).expect("the encoder runs");
    understood.into_iter().zip(&prompts).map(|(one, (prompt, _))| one.unwrap_or_else(|| panic!("`{prompt}` has words"))).collect()
}

#[test]
fn everyday_prompts_are_understood() {
    let text = std::fs::read_to_string(root().join("training/data/everyday_prompts.tsv")).expect("the file is in the repository");
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let prompts: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let found = understood(&pipeline(), &prompts, Choice::First);
    let (mut drawable, mut right, mut doubted, mut undrawable, mut said) = (0, 0, 0, 0, 0);
    let mut report = String::new();
    for (row, found) in rows.iter().zip(&found) {
        let unknown = !found.unknown.is_empty();
        let meant = row[1].split(" | ").any(|object| object == found.used[0]);
        if row[1] == "unknown" {
            (undrawable, said) = (undrawable + 1, said + usize::from(unknown));
        } else {
            (drawable, right, doubted) = (drawable + 1, right + usize::from(meant), doubted + usize::from(unknown));
        }
        if (row[1] == "unknown") != unknown || row[1] != "unknown" && !meant {
            report += &format!("\n{}: {}, unknown {:?}", row[0], found.used(), found.unknown);
        }
    }
    let line = format!("object right {right} of {drawable}, doubted {doubted}; unknown said {said} of {undrawable}{report}");
    println!("{line}");
    // The bars, in hundredths.
    assert_eq!((drawable, undrawable), (90, 30), "the prompts are those labelled");
    assert!(100 * right >= 90 * drawable, "{line}");
    assert!(100 * doubted <= 5 * drawable, "{line}");
    assert!(100 * said >= 80 * undrawable, "{line}");
}

#[test]
fn motions_backgrounds_and_what_is_left_out_are_told() {
    let cases = [
        ("a cat nodding off on a sofa at night", "cat face, nodding, black", "", "sofa"),
        ("the dog runs in the park!", "dog face, sticking its tongue out, green", "", "runs"),
        ("a horse runs", "horse, running, white", "", ""),
        ("two elephants in front of a red wall", "elephant, walking, red", "", "two"),
        ("a red car", "car, driving, white", "", ""),
        ("rocket taking off", "rocket, blasting off, white", "", ""),
        ("a castle on a blue background", "", "castle", ""),
        ("a knight riding a dragon", "dragon, slithering, white", "knight", "riding"),
        ("🦊 nodding", "fox, tilting its head, white", "", ""),
        ("🐻‍❄️", "polar bear, tilting its head, white", "", ""),
        ("a cat and a dog", "cat face, nodding, white", "", "dog"),
        ("hot dog", "", "hot dog", ""),
    ];
    let prompts: Vec<&str> = cases.iter().map(|case| case.0).collect();
    for ((prompt, used, unknown, ignored), found) in cases.into_iter().zip(understood(&pipeline(), &prompts, Choice::First)) {
        let words = found.unknown.iter().map(|unknown| unknown.word.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!((words.as_str(), found.ignored.join(" ").as_str()), (unknown, ignored), "{prompt}: {}", found.used());
        if !used.is_empty() {
            assert_eq!(found.used(), used, "{prompt}");
        }
    }
}

#[test]
fn captions_and_the_words_used_mean_themselves() {
    let pipeline = pipeline();
    let json = std::fs::read_to_string(root().join("models/flipbook/vocabulary.json")).expect("shipped");
    let words = kinora_runtime::understanding::Vocabulary::parse(&json, "vocabulary.json").expect("valid");
    let mut texts = Vec::new();
    for (i, object) in words.objects.iter().enumerate() {
        for (j, motion) in object.motions.iter().enumerate() {
            texts.push([object.name.clone(), motion.clone(), words.colors[(i + j) % words.colors.len()].clone()]);
        }
    }
    let short: Vec<String> = texts.iter().map(|used| used.join(", ")).collect();
    let found = understood(&pipeline, &short.iter().map(String::as_str).collect::<Vec<_>>(), Choice::Seed(7));
    let captions: Vec<&str> = found.iter().map(|found| found.caption.as_str()).collect();
    let again = understood(&pipeline, &captions, Choice::Seed(8));
    for ((used, found), again) in texts.iter().zip(&found).zip(&again) {
        assert_eq!((&found.used, &found.unknown, &found.ignored), (used, &Vec::new(), &Vec::new()), "{}", found.caption);
        assert_eq!(again, found, "{}", found.caption);
    }
    assert_eq!(captions[0], "a tiger face looking around on a white background");
}

#[test]
fn seeds_choose_what_a_prompt_leaves_open() {
    let pipeline = pipeline();
    let of = |seed| understood(&pipeline, &["a rocket on a blue background"], Choice::Seed(seed)).remove(0).used();
    let found: std::collections::BTreeSet<String> = (0..32).map(of).collect();
    let expected = ["rocket, blasting off, blue", "rocket, flying through space, blue", "rocket, flying, blue"];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "every motion, on the background asked for");
    assert_eq!(of(3), of(3));
}

#[test]
fn prompts_without_words_are_left_alone() {
    let pipeline = pipeline();
    let prompts = ["", "  ", "…!?"].map(|prompt| (prompt, Choice::First));
    let found = pollster::block_on(pipeline.understand(&prompts, &CancelToken::default())).expect("nothing to do");
    assert_eq!(found, [None, None, None]);
}
