//! What the name of a column says: label, identifier, code, money, another quantity.
//!
//! In flow names as files have them, out flow words in lower case and what they stand for. Names are taken
//! apart at anything that is no letter or digit, at changes to upper case and before digits: `isFraud`,
//! `TX_FRAUD` and `is-fraud` have the word `fraud`. A name is evidence, never proof: `rules` looks at the values too.

/// Words of a name, in lower case: `oldbalanceOrg` is `oldbalance`, `org`.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let characters: Vec<char> = name.chars().collect();
    for (index, &c) in characters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(index + 1);
        let starts = before.is_some_and(|before| {
            (c.is_uppercase() && before.is_lowercase())
                || (c.is_uppercase()
                    && before.is_uppercase()
                    && after.is_some_and(|after| after.is_lowercase()))
                || (c.is_ascii_digit() && before.is_alphabetic())
        });
        if !c.is_alphanumeric() || starts {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Whether `word` is one of a list of words with blanks between.
fn is_in(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

/// How surely a name is that of a label; the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LabelName {
    /// `is_fraud`, `TX_FRAUD`, `fraudulent`: says what it is.
    Fraud,
    /// `label`, `Class`, `target`, `y`: the word of machine learning.
    Class,
    /// `fraud_scenario`, `attack_cat`, `isFlaggedFraud`: about the label, but not it.
    About,
}

/// What the name says of a label, if anything.
pub(super) fn label_name(name: &str) -> Option<LabelName> {
    const FRAUD: &str = "fraud frauds fraudulent fraudulence fraude frauduleux fraudulento betrug frode chargeback \
        anomaly anomalous outlier abnormal scam malicious attack intrusion laundering illicit isfraud isfraudulent \
        isanomaly isoutlier isattack ischargeback fraudflag fraudlabel fraudind";
    /// Words that may stand beside without making it something else.
    const PLAIN: &str = "is tx transaction trans txn payment label labels flag ind indicator bool boolean class \
        target confirmed reported detected found p yn bin binary true real truth y";
    /// Words that make it a number that was known before: a feature.
    const BEFORE: &str = "score rate ratio risk count cnt num number prior previous prev past last history historical \
        days hours since avg mean sum prob probability 24h 7d 30d pct percent ever index code";
    const CLASS: &str = "label labels class target y outcome ground_truth groundtruth truth is_bad classification \
        y_true gt is_sar sar_flag";
    let words = words(name);
    if words.iter().any(|word| is_in(BEFORE, word)) {
        return None;
    }
    let is_fraud = |word: &String| is_in(FRAUD, word);
    if words.iter().any(is_fraud) {
        let plain = |word: &String| is_fraud(word) || is_in(PLAIN, word);
        let sure = words.iter().all(plain);
        return Some(if sure {
            LabelName::Fraud
        } else {
            LabelName::About
        });
    }
    let whole = words.join("_");
    let bare = words.iter().all(|word| is_in(PLAIN, word));
    let class = is_in(CLASS, &whole)
        || (bare
            && words
                .iter()
                .any(|word| ["label", "class", "target"].contains(&word.as_str())));
    class.then_some(LabelName::Class)
}

/// How surely a name is that of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdentifierName {
    /// `customer_id`, `uuid`, `iban`: nothing else is called so.
    Sure,
    /// `card_no`, `cc_num`: counts are called so too.
    Likely,
}

/// What the name says of an identifier, if anything: its last word decides.
pub(super) fn identifier_name(name: &str) -> Option<IdentifierName> {
    const SURE: &str = "id uuid guid iban imei imsi msisdn ssn pan";
    const LIKELY: &str = "num number no nr ref reference";
    let words = words(name);
    let last = words.last()?.as_str();
    if is_in(SURE, last) {
        Some(IdentifierName::Sure)
    } else {
        (words.len() > 1 && is_in(LIKELY, last)).then_some(IdentifierName::Likely)
    }
}

/// Whether the name is that of money, in the languages that such columns are often named in.
pub(super) fn is_money_name(name: &str) -> bool {
    const WORDS: &str = "amount amounts amt price prices cost costs cents cent balance bal total subtotal sum fee \
        fees charge charges salary income revenue sales cash money tip tax vat discount spend spent \
        turnover loan deposit withdrawal usd eur gbp chf jpy inr montant prix solde frais preis \
        saldo summe importe precio monto valor importo prezzo bedrag belopp";
    /// Parts of words that are long enough to be found anywhere: `oldbalanceOrg`, `gesamtbetrag`.
    const PARTS: &str = "amount balance price betrag montant importe gebuehr umsatz";
    words(name)
        .iter()
        .any(|word| is_in(WORDS, word) || PARTS.split(' ').any(|part| word.contains(part)))
}

/// Whether the name is that of another quantity: a duration, an age, a count, a measure.
pub(super) fn is_quantity_name(name: &str) -> bool {
    const WORDS: &str = "age ages days day hours hour minutes min max mins seconds secs sec ms months years weeks \
        duration elapsed since time timestamp ts count counts cnt quantity qty avg average mean \
        median std rate ratio pct percent share distance dist km miles m kg weight height width \
        length size bytes kb mb score points speed temperature temp lat long latitude longitude \
        population pop volume rank level value uptime";
    is_money_name(name) || words(name).iter().any(|word| is_in(WORDS, word))
}

/// Whether the name is that of a code: a number that is a name.
pub(super) fn is_code_name(name: &str) -> bool {
    const WORDS: &str = "code codes cd zip zipcode postcode postalcode postal plz cap mcc sic naics isic iin bic port \
        sport dport country region branch sku ean gtin category";
    let words = words(name);
    let named = words
        .iter()
        .rfind(|word| !word.chars().all(|c| c.is_ascii_digit()));
    named.is_some_and(|word| is_in(WORDS, word))
}

/// Whether the name is that of a thing that is counted by number: `card1`, `terminal`, `addr2`.
pub(super) fn is_thing_name(name: &str) -> bool {
    const WORDS: &str = "card account acct addr address terminal term merchant customer client user device store shop \
        bank bin atm pos city county";
    let words = words(name);
    let named = words
        .iter()
        .rfind(|word| !word.chars().all(|c| c.is_ascii_digit()));
    named.is_some_and(|word| is_in(WORDS, word))
}

/// How surely a name is that of a date, so that integers may count days from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DateName {
    /// `value_date`, `dt`, `epoch_days`: nothing else is called so.
    Sure,
    /// `day`: numbers of other things are called so too.
    Likely,
}

/// What the name says of a date, if anything: its last word decides.
pub(super) fn date_name(name: &str) -> Option<DateName> {
    const DATE: &str = "date dates dt dte datum fecha dob";
    /// Words that end in `date` and are none.
    const OTHER: &str = "update candidate validate mandate consolidate liquidate outdate predate";
    /// Words beside `day` that make it a duration or a rate.
    const RATE: &str =
        "per of avg average mean median age since count cnt max min total sum in to until";
    let words = words(name);
    let last = words.last()?.as_str();
    let epoch = words.iter().any(|word| is_in("epoch unix", word));
    let days = words.iter().any(|word| is_in("day days", word));
    let is_date = is_in(DATE, last)
        || (last.ends_with("date") && !is_in(OTHER, last))
        || words.starts_with(&["date".to_owned(), "of".to_owned()]);
    if is_date || (epoch && days) {
        return Some(DateName::Sure);
    }
    let is_rate = words.iter().any(|word| is_in(RATE, word)) || is_money_name(name);
    (last == "day" && !is_rate).then_some(DateName::Likely)
}

/// Whether the name is that of a moment, so that integers may count from 1970.
pub(super) fn is_time_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = ["time", "_ts", "_at", "timestamp"];
    ends.iter().any(|end| lower.ends_with(end)) || lower.starts_with("timestamp") || lower == "ts"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_as_people_put_them_together() {
        for (name, expected) in [
            ("isFraud", "is fraud"),
            ("TX_FRAUD", "tx fraud"),
            ("merchant-category.code", "merchant category code"),
            ("customerID", "customer id"),
            ("HTTPStatus", "http status"),
            ("card1", "card 1"),
            ("payments_24h", "payments 24h"),
            ("__", ""),
        ] {
            assert_eq!(words(name).join(" "), expected);
        }
    }

    #[test]
    fn labels_are_known_by_name_in_every_spelling() {
        for name in [
            "is_fraud",
            "isFraud",
            "isfraud",
            "TX_FRAUD",
            "fraud",
            "Fraud",
            "fraudulent",
            "fraud_flag",
            "is_anomaly",
            "chargeback",
            "IsFraudulent",
            "fraud_label",
            "FRAUD_IND",
            "attack",
            "fraude",
            "Is Laundering",
            "fraud_bool",
            "FraudFound_P",
        ] {
            assert_eq!(label_name(name), Some(LabelName::Fraud), "{name}");
        }
        for name in [
            "Class",
            "label",
            "Label",
            "target",
            "y",
            "is_label",
            "binary_class",
            "target_label",
            "IS_SAR",
        ] {
            assert_eq!(label_name(name), Some(LabelName::Class), "{name}");
        }
        for name in [
            "fraud_scenario",
            "TX_FRAUD_SCENARIO",
            "attack_cat",
            "isFlaggedFraud",
        ] {
            assert_eq!(label_name(name), Some(LabelName::About), "{name}");
        }
        for name in [
            "fraud_score",
            "prior_fraud",
            "chargeback_count_30d",
            "days_since_fraud",
            "yield",
            "amount",
            "classroom",
            "anomaly_score",
            "terminal_risk_fraud",
            "is_new",
            "type",
            "payer_class_code",
        ] {
            assert_eq!(label_name(name), None, "{name}");
        }
    }

    #[test]
    fn identifiers_are_known_by_the_last_word_of_their_name() {
        for name in [
            "id",
            "ID",
            "TERMINAL_ID",
            "customerId",
            "x_uuid",
            "payer.iban",
        ] {
            assert_eq!(identifier_name(name), Some(IdentifierName::Sure), "{name}");
        }
        for name in ["cc_num", "account-number", "cardNo", "order_ref"] {
            assert_eq!(
                identifier_name(name),
                Some(IdentifierName::Likely),
                "{name}"
            );
        }
        for name in [
            "paid", "num", "humid", "PAID", "number", "id_count", "idle", "Covid",
        ] {
            assert_eq!(identifier_name(name), None, "{name}");
        }
    }

    #[test]
    fn dates_are_known_by_the_last_word_of_their_name() {
        for name in [
            "date",
            "value_date",
            "bookingDate",
            "DT",
            "event_dt",
            "birthdate",
            "date_of_birth",
            "epoch_day",
        ] {
            assert_eq!(date_name(name), Some(DateName::Sure), "{name}");
        }
        assert_eq!(date_name("day"), Some(DateName::Likely));
        assert_eq!(date_name("posting_day"), Some(DateName::Likely));
        for name in [
            "days",
            "age_days",
            "payments_per_day",
            "day_of_week",
            "update",
            "candidate",
            "dated_amount",
            "since",
        ] {
            assert_eq!(date_name(name), None, "{name}");
        }
    }

    #[test]
    fn money_is_known_in_several_languages() {
        for name in [
            "amount",
            "amount_cents",
            "transactionAmount",
            "oldbalanceOrg",
            "amt",
            "TOTAL",
            "price_eur",
            "Montant",
            "gesamtbetrag",
            "importe",
            "fee",
        ] {
            assert!(is_money_name(name), "{name}");
        }
        for name in ["card1", "zip", "customer_id", "tipping", "summary", "feel"] {
            assert!(!is_money_name(name), "{name}");
        }
    }
}
