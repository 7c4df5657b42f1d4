//! Newsletters as sending platforms write them, with fictitious names.

use mail_builder::MessageBuilder;

/// Returns three newsletters to this address, from a shop in this domain.
pub(in crate::cli) fn newsletters(to: &str, domain: &str) -> Vec<Vec<u8>> {
    let token = |salt: u32| -> String {
        let seed = to.bytes().fold(salt, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        (0..4u32)
            .map(|round| format!("{:08x}", seed.wrapping_mul(2_654_435_761u32.wrapping_add(round * 97))))
            .collect()
    };
    [
        (
            "Autumn arrivals",
            format!(
                "<p>Warm coats, sturdy boots and a lamp for the long evenings.</p><p><a \
                 href=\"https://www.shop.example/autumn\">See what is new</a></p><img \
                 src=\"https://click.shop.example/wf/open?upn=u001.{}\" width=\"1\" height=\"1\" \
                 border=\"0\" alt=\"\" style=\"height:1px!important;width:1px!important\">",
                token(1)
            ),
        ),
        (
            "Your week in the garden",
            format!(
                "<style>@media \
                 print{{#print{{background-image:url('https://p.shop.example/track/open.php?u=7&id={}')}}}}\
                 </style><p>Plant bulbs now, and cover the roses before the first frost.</p><div \
                 id=\"print\"></div><!--[if mso]><img src=\"https://t.shop.example/beacon.gif?m={}\" width=1 \
                 height=1><![endif]-->",
                token(2),
                token(3)
            ),
        ),
        (
            "Thank you for your order",
            format!(
                "<p>Order 1047 left our house today.</p><p>It should be with you by Thursday.</p><div \
                 style=\"display:none;max-height:0\"><img src=\"https://mail.shop.example/o/{}/{}\" \
                 alt=\"\"></div>",
                token(4),
                token(5)
            ),
        ),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (subject, content))| message(to, domain, number, subject, &content))
    .collect()
}

fn message(to: &str, domain: &str, number: usize, subject: &str, content: &str) -> Vec<u8> {
    let html = format!(
        "<!DOCTYPE html>\r\n\
         <html><head><meta charset=\"utf-8\"><title>{subject}</title></head>\r\n\
         <body style=\"font-family:sans-serif;background:#f4f1ea;padding:16px\">\r\n\
         <table role=\"presentation\" width=\"100%\"><tr><td style=\"background:#fff;padding:24px\">\r\n\
         <img src=\"https://cdn.shop.example/img/logo.png\" width=\"140\" height=\"40\" alt=\"Shop\">\r\n\
         <h1 style=\"font-size:22px\">{subject}</h1>\r\n\
         <img src=\"https://cdn.shop.example/img/picture-{number}.jpg\" width=\"320\" height=\"120\" alt=\"A \
         picture\">\r\n\
         {content}\r\n\
         </td></tr></table>\r\n\
         </body></html>\r\n"
    );
    let html = html.replace("shop.example", domain);
    MessageBuilder::new()
        .from(("Shop".to_owned(), format!("news@{domain}")))
        .to(to.to_owned())
        .subject(subject)
        .message_id(format!("demo-{number}.{}@{domain}", to.split('@').next().unwrap_or_default()))
        .date(1_793_610_000_i64 + i64::try_from(number).unwrap_or(0) * 3600)
        .text_body(format!("{subject}\r\n\r\nThis mail is best read with pictures.\r\n"))
        .html_body(html)
        .write_to_vec()
        .unwrap_or_default()
}
