//! One payment: what its maker chose ([`Draft`]) and what the bank adds to it ([`Payment`]).
//!
//! Invariant: `online` is there exactly when the entry mode is one of the online ones,
//! `pin_verified` exactly when not.

use super::scenario::Scenario;

/// How the card's data reached the merchant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryMode {
    Chip,
    Contactless,
    Magstripe,
    /// Typed in by the merchant.
    Manual,
    /// Online, the customer authenticated by the bank.
    Authenticated,
    /// Online, nobody authenticated.
    Unauthenticated,
    /// Online, with a card the merchant has on file.
    StoredCard,
}

impl EntryMode {
    /// Its name in records.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chip => "chip",
            Self::Contactless => "contactless",
            Self::Magstripe => "magstripe",
            Self::Manual => "manual",
            Self::Authenticated => "authenticated",
            Self::Unauthenticated => "unauthenticated",
            Self::StoredCard => "stored_card",
        }
    }

    /// The channel it belongs to, as records name it.
    pub(super) fn channel(self) -> &'static str {
        match self {
            Self::Chip | Self::Contactless | Self::Magstripe | Self::Manual => "card_present",
            Self::Authenticated | Self::Unauthenticated | Self::StoredCard => "online",
        }
    }
}

/// Kinds of devices from which customers pay online, and how common each is.
pub(super) const DEVICES: [(&str, f64); 6] = [
    ("android", 38.0),
    ("ios", 33.0),
    ("windows", 19.0),
    ("macos", 7.0),
    ("linux", 2.0),
    ("smart_tv", 1.0),
];

/// Kinds of cards, and how common each is.
pub(super) const CARD_TYPES: [(&str, f64); 3] =
    [("debit", 62.0), ("credit", 30.0), ("prepaid", 8.0)];

/// What is known of the other end of an online payment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Online {
    /// Index into [`DEVICES`].
    pub(super) device: u8,
    /// Whether the customer never paid from it before.
    pub(super) new_device: bool,
    /// The customer's payments from it before this one.
    pub(super) device_payments: u32,
    /// Country of the address it came from, index into the countries.
    pub(super) ip_country: u8,
    /// Whether name and street that were typed in are those that the bank knows.
    pub(super) address_match: bool,
}

/// What the one who pays decides, owner or thief.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft {
    pub(super) terminal: u32,
    /// EUR, above zero.
    pub(super) amount_eur: f64,
    pub(super) entry_mode: EntryMode,
    /// Whether PIN or the phone's lock was passed; none online.
    pub(super) pin_verified: Option<bool>,
    /// None in a shop.
    pub(super) online: Option<Online>,
    /// Attempts just before that the bank declined.
    pub(super) declines: u8,
    /// Whether address, telephone or password were changed just before.
    pub(super) profile_changed: bool,
}

/// A payment as the bank's topic carries it.
#[derive(Debug, Clone)]
pub(super) struct Payment {
    /// Counts the payments from 0.
    pub(super) number: u64,
    /// Milliseconds since 1970, never less than the payment's before.
    pub(super) time_ms: i64,
    pub(super) customer: u32,
    pub(super) draft: Draft,
    /// In the terminal's currency, two decimals, at least 0.01.
    pub(super) amount: f64,
    /// Amount over the customer's mean before this payment.
    pub(super) amount_ratio: f64,
    /// Index into the countries.
    pub(super) home_country: u8,
    /// Index into [`CARD_TYPES`].
    pub(super) card_type: u8,
    /// Whether the customer has not paid there lately.
    pub(super) new_terminal: bool,
    /// From home to the terminal; none online.
    pub(super) distance_km: Option<f64>,
    /// Since the customer's last payment, at least 0.
    pub(super) seconds_since_last: i64,
    /// The customer's payments in the 24 hours before this one.
    pub(super) payments_24h: i64,
    /// The customer's payments in the hour before this one.
    pub(super) payments_1h: i64,
    /// What the customer spent in 24 hours, this payment included, over the mean payment before it.
    pub(super) amount_24h_ratio: f64,
    /// Payments at places new to the customer in an hour, this one included.
    pub(super) new_terminals_1h: i64,
    /// Declined attempts with the card in 24 hours, those just before this payment included.
    pub(super) declines_24h: i64,
    /// Days since address, telephone or password were changed.
    pub(super) profile_age_days: f64,
    /// From the last payment in a shop to this one, as the crow flies; none online.
    pub(super) speed_kmh: Option<f64>,
    /// Payments typed in by the merchant at the terminal in the 24 hours before this one.
    pub(super) terminal_manual_24h: i64,
    /// None for a genuine payment.
    pub(super) scenario: Option<Scenario>,
}
