//! The text form of the domain's enums, each defined once.

use ordergrid_domain::order::{
    CancelReason, FulfilmentState, Operator, OrderHold, PaymentState, PaymentStatus, Phase, RefundState, Status, Terms,
};

use super::text::WireText;

macro_rules! words {
    ($($name:ident { $($variant:ident = $word:literal),+ $(,)? })*) => {$(
        impl WireText for $name {
            fn read(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(concat!("must be one of", $(" ", $word),+).to_owned()),
                }
            }

            fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
                then(match self { $(Self::$variant => $word),+ })
            }
        }
    )*};
}

words! {
    Phase {
        PendingPayment = "pending_payment",
        Confirmed = "confirmed",
        Completed = "completed",
        Cancelled = "cancelled",
    }
    Status {
        Cancelled = "cancelled",
        Completed = "completed",
        PendingPayment = "pending_payment",
        Delivered = "delivered",
        Shipped = "shipped",
        PartiallyShipped = "partially_shipped",
        Paid = "paid",
        Confirmed = "confirmed",
        OnHold = "on_hold",
    }
    OrderHold {
        NoCover = "no_cover",
        PaymentInDoubt = "payment_in_doubt",
    }
    PaymentStatus {
        Unpaid = "unpaid",
        Authorized = "authorized",
        PartiallyPaid = "partially_paid",
        Paid = "paid",
        PartiallyRefunded = "partially_refunded",
        Refunded = "refunded",
        Disputed = "disputed",
    }
    CancelReason {
        User = "user",
        Timeout = "timeout",
        Merchant = "merchant",
        Risk = "risk",
        Shortfall = "shortfall",
    }
    Terms {
        Prepaid = "prepaid",
        OnDelivery = "on_delivery",
        Invoice = "invoice",
    }
    Operator {
        User = "user",
        Merchant = "merchant",
        System = "system",
        Provider = "provider",
    }
    PaymentState {
        Processing = "processing",
        Authorized = "authorized",
        Captured = "captured",
        Failed = "failed",
        Voided = "voided",
        Expired = "expired",
        CaptureFailed = "capture_failed",
        Disputed = "disputed",
        DisputeWon = "dispute_won",
        DisputeLost = "dispute_lost",
    }
    RefundState {
        Requested = "requested",
        Succeeded = "succeeded",
        Failed = "failed",
    }
    FulfilmentState {
        Picking = "picking",
        Shipped = "shipped",
        Delivered = "delivered",
        Cancelled = "cancelled",
    }
}
