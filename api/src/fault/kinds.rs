//! Every kind of problem. Programs rely on codes, so a code never changes its meaning.

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The HTTP status.
    pub status: u16,
    /// The code for programs.
    pub code: &'static str,
    /// The code as a URI.
    pub uri: &'static str,
    /// The kind in words.
    pub title: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether the request may have taken effect. If not, nothing happened.
    pub unknown: bool,
}

macro_rules! kinds {
    ($($name:ident $status:literal $code:literal $outcome:ident $again:ident $title:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: Kind = Kind {
                status: $status,
                code: $code,
                uri: concat!("urn:ordergrid:problem:", $code),
                title: $title,
                retryable: kinds!(@$again),
                unknown: kinds!(@$outcome),
            };
        )*

        /// All kinds, sorted by status.
        pub const ALL: &[&Kind] = &[$(&$name),*];
    };
    (@refused) => { false };
    (@unknown) => { true };
    (@never) => { false };
    (@later) => { true };
}

kinds! {
    MALFORMED_JSON               400 "malformed_json"               refused never "The body is not valid JSON";
    UNKNOWN_FIELD                400 "unknown_field"                refused never "The body has a field that is not known here";
    DUPLICATE_FIELD              400 "duplicate_field"              refused never "The body has a field more than once";
    UNKNOWN_PARAMETER            400 "unknown_parameter"            refused never "The URL has a query parameter that is not known here";
    MISSING_IDEMPOTENCY_KEY      400 "missing_idempotency_key"      refused never "An idempotency key is required";
    INVALID_IDEMPOTENCY_KEY      400 "invalid_idempotency_key"      refused never "The idempotency key is not valid";
    INVALID_IF_MATCH             400 "invalid_if_match"             refused never "The header If-Match is not valid";
    INVALID_IF_NONE_MATCH        400 "invalid_if_none_match"        refused never "The header If-None-Match is not valid";
    MALFORMED_PATH               400 "malformed_path"               refused never "The path has an escape that is not valid";
    INVALID_GRID_TOKEN           400 "invalid_grid_token"           refused never "The header Grid-Token is not valid";
    INCOMPLETE_BODY              400 "incomplete_body"              refused never "The body ended too early";
    NO_SUCH_ROUTE                404 "no_such_route"                refused never "There is nothing at this path";
    NO_SUCH_ORDER                404 "no_such_order"                refused never "There is no such order";
    NO_SUCH_SKU                  404 "no_such_sku"                  refused never "There is no such SKU";
    NO_SUCH_FULFILMENT           404 "no_such_fulfilment"           refused never "There is no such fulfilment";
    NO_SUCH_REFUND               404 "no_such_refund"               refused never "There is no such refund";
    NO_SUCH_PAYMENT              404 "no_such_payment"              refused never "The order has no such payment";
    METHOD_NOT_ALLOWED           405 "method_not_allowed"           refused never "The method is not allowed for this path";
    BODY_TOO_SLOW                408 "body_too_slow"                refused later "The body took too long";
    OUT_OF_STOCK                 409 "out_of_stock"                 refused never "There is not enough stock";
    REFERENCE_TAKEN              409 "reference_taken"              refused never "The reference is taken";
    WRONG_PHASE                  409 "wrong_phase"                  refused never "The order's phase does not allow it";
    ON_HOLD                      409 "on_hold"                      refused never "The order is on hold";
    WRONG_FULFILMENT_STATE       409 "wrong_fulfilment_state"       refused never "The fulfilment's state does not allow it";
    WRONG_PAYMENT_STATE          409 "wrong_payment_state"          refused never "The provider reported another amount before";
    NOT_ENOUGH_ON_LINE           409 "not_enough_on_line"           refused never "Not enough units on the line";
    NOTHING_LEFT                 409 "nothing_left"                 refused never "Nothing is left to do this to";
    REFUND_TOO_LARGE             409 "refund_too_large"             refused never "The refund is larger than what can be refunded";
    STILL_OPEN                   409 "still_open"                   refused never "A part of the order is still open";
    HISTORY_FULL                 409 "history_full"                 refused never "The order's history is full";
    LOG_TIME_NOT_AHEAD           409 "log_time_not_ahead"           refused never "Log time is not ahead";
    WOULD_OVERSELL               409 "would_oversell"               refused never "The units are promised to orders";
    STALE_VERSION                412 "stale_version"                refused never "The version has changed";
    BODY_TOO_LARGE               413 "body_too_large"               refused never "The body is too large";
    UNSUPPORTED_ENCODING         415 "unsupported_encoding"         refused never "Encoded bodies are not supported";
    MISSING_FIELD                422 "missing_field"                refused never "A required field is missing";
    UNSUPPORTED                  422 "unsupported"                  refused never "This is not supported yet";
    TOO_MANY_LINES               422 "too_many_lines"               refused never "The order has too many lines";
    TOO_MANY_ORDERS              422 "too_many_orders"              refused never "The batch has too many orders";
    TOO_MANY_COMMANDS            422 "too_many_commands"            refused never "The batch has too many commands";
    PAGE_TOO_DEEP                422 "page_too_deep"                refused never "The page number is too large: continue with a cursor";
    IDEMPOTENCY_KEY_REUSED       422 "idempotency_key_reused"       refused never "The idempotency key was used with another body";
    TOTAL_MISMATCH               422 "total_mismatch"               refused never "The total does not add up";
    WRONG_CURRENCY               422 "wrong_currency"               refused never "The order is in another currency";
    NO_SUCH_LINE                 422 "no_such_line"                 refused never "The order has no such line";
    NO_SUCH_WAREHOUSE            422 "no_such_warehouse"            refused never "There is no such warehouse";
    INVALID_AMOUNT               422 "invalid_amount"               refused never "An amount is not valid";
    INVALID_BODY                 422 "invalid_body"                 refused never "The body does not have the expected form";
    INVALID_CARRIAGE             422 "invalid_carriage"             refused never "The carriage is not valid";
    INVALID_CARRIER              422 "invalid_carrier"              refused never "The carrier is not valid";
    INVALID_COMMANDS             422 "invalid_commands"             refused never "The commands are not valid";
    INVALID_CONSISTENCY          422 "invalid_consistency"          refused never "The consistency is not valid";
    INVALID_CURRENCY             422 "invalid_currency"             refused never "The currency is not valid";
    INVALID_CURSOR               422 "invalid_cursor"               refused never "The cursor is not valid";
    INVALID_DELTA                422 "invalid_delta"                refused never "The delta is not valid";
    INVALID_DISCOUNT             422 "invalid_discount"             refused never "The discount is not valid";
    INVALID_IF_VERSION           422 "invalid_if_version"           refused never "The version is not valid";
    INVALID_LINE                 422 "invalid_line"                 refused never "The line number is not valid";
    INVALID_LINES                422 "invalid_lines"                refused never "The lines are not valid";
    INVALID_METADATA             422 "invalid_metadata"             refused never "The metadata are not valid";
    INVALID_NAME                 422 "invalid_name"                 refused never "The name is not valid";
    INVALID_NOTE                 422 "invalid_note"                 refused never "The note is not valid";
    INVALID_OPERATOR             422 "invalid_operator"             refused never "The operator is not valid";
    INVALID_OCCURRED_AT          422 "invalid_occurred_at"          refused never "The time is not valid";
    INVALID_ORDERS               422 "invalid_orders"               refused never "The orders are not valid";
    INVALID_PAGE                 422 "invalid_page"                 refused never "The page is not valid";
    INVALID_PARAMETER            422 "invalid_parameter"            refused never "A query parameter is not valid";
    INVALID_PART                 422 "invalid_part"                 refused never "The provider's id of the part is not valid";
    INVALID_PATH                 422 "invalid_path"                 refused never "The path is not valid";
    INVALID_PAYMENT_METHOD       422 "invalid_payment_method"       refused never "The payment method is not valid";
    INVALID_PAYMENT_WINDOW       422 "invalid_payment_window"       refused never "The payment window is not valid";
    INVALID_PROVIDER             422 "invalid_provider"             refused never "The provider is not valid";
    INVALID_PROVIDER_PAYMENT_ID  422 "invalid_provider_payment_id"  refused never "The provider's payment id is not valid";
    INVALID_QUANTITY             422 "invalid_quantity"             refused never "The quantity is not valid";
    INVALID_REASON               422 "invalid_reason"               refused never "The reason is not valid";
    INVALID_REFERENCE            422 "invalid_reference"            refused never "The reference is not valid";
    INVALID_SHIP_TO              422 "invalid_ship_to"              refused never "The address is not valid";
    INVALID_SHIPPING_FEE         422 "invalid_shipping_fee"         refused never "The shipping fee is not valid";
    INVALID_SIZE                 422 "invalid_size"                 refused never "The size of a page is not valid";
    INVALID_SKU                  422 "invalid_sku"                  refused never "The SKU id is not valid";
    INVALID_STATUS               422 "invalid_status"               refused never "The status is not valid";
    INVALID_TAX                  422 "invalid_tax"                  refused never "The tax is not valid";
    INVALID_TERMS                422 "invalid_terms"                refused never "The payment terms are not valid";
    INVALID_TOTAL                422 "invalid_total"                refused never "The total is not valid";
    INVALID_TRACKING             422 "invalid_tracking"             refused never "The tracking number is not valid";
    INVALID_UNIT_PRICE           422 "invalid_unit_price"           refused never "The unit price is not valid";
    INVALID_USER_ID              422 "invalid_user_id"              refused never "The user id is not valid";
    INVALID_WAREHOUSE            422 "invalid_warehouse"            refused never "The warehouse is not valid";
    INTERNAL_ERROR               500 "internal_error"               unknown later "Internal error";
    OVERLOADED                   503 "overloaded"                   refused later "The cluster is busy";
    TOO_MANY_CONNECTIONS         503 "too_many_connections"         refused later "This node has too many connections";
    NO_LEADER                    503 "no_leader"                    refused later "The shard has no leader";
    NOT_READY                    503 "not_ready"                    refused later "This node is not ready";
    CLOCK_SKEW                   503 "clock_skew"                   refused later "The clocks are too far apart";
    HOLD_TIMED_OUT               503 "hold_timed_out"               refused later "The stock could not be held in time";
    UNREACHABLE                  503 "unreachable"                  refused later "The shard's leader cannot be reached";
    NOT_ANSWERED                 503 "not_answered"                 refused later "The read was not answered";
    TOKEN_AHEAD                  503 "token_ahead"                  refused later "The token is ahead of the shard's log";
    DAMAGED                      503 "damaged"                      refused later "What is stored of the shard is damaged";
    OUTCOME_UNKNOWN              503 "outcome_unknown"              unknown later "The outcome is not known";
    TIMED_OUT                    504 "timed_out"                    unknown later "There was no answer in time";
}

/// The kind of a value that can be parsed but is not valid, by the name of its field.
pub fn invalid(field: &str) -> &'static Kind {
    match field {
        "amount" => &INVALID_AMOUNT,
        "carriage" => &INVALID_CARRIAGE,
        "carrier" => &INVALID_CARRIER,
        "commands" => &INVALID_COMMANDS,
        "currency" => &INVALID_CURRENCY,
        "delta" => &INVALID_DELTA,
        "discount" => &INVALID_DISCOUNT,
        "idempotency_key" => &INVALID_IDEMPOTENCY_KEY,
        "if_version" => &INVALID_IF_VERSION,
        "line" => &INVALID_LINE,
        "lines" => &INVALID_LINES,
        "metadata" => &INVALID_METADATA,
        "name" => &INVALID_NAME,
        "note" => &INVALID_NOTE,
        "operator" => &INVALID_OPERATOR,
        "occurred_at" => &INVALID_OCCURRED_AT,
        "orders" => &INVALID_ORDERS,
        "part" => &INVALID_PART,
        "path" => &INVALID_PATH,
        "payment_method" => &INVALID_PAYMENT_METHOD,
        "payment_window_seconds" => &INVALID_PAYMENT_WINDOW,
        "provider" => &INVALID_PROVIDER,
        "provider_payment_id" => &INVALID_PROVIDER_PAYMENT_ID,
        "quantity" => &INVALID_QUANTITY,
        "reason" => &INVALID_REASON,
        "reference" => &INVALID_REFERENCE,
        "ship_to" => &INVALID_SHIP_TO,
        "shipping_fee" => &INVALID_SHIPPING_FEE,
        "sku" => &INVALID_SKU,
        "status" => &INVALID_STATUS,
        "tax" => &INVALID_TAX,
        "terms" => &INVALID_TERMS,
        "total" => &INVALID_TOTAL,
        "tracking" => &INVALID_TRACKING,
        "unit_price" => &INVALID_UNIT_PRICE,
        "user_id" => &INVALID_USER_ID,
        "warehouse" => &INVALID_WAREHOUSE,
        _ => &INVALID_BODY,
    }
}
