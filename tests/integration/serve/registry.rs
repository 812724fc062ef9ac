//! A schema registry that does not answer is waited for, whatever it says instead: nothing becomes a dead letter.
//!
//! Avro on a real broker flows in, schemas come from a stand-in that answers as registries, proxies and outages do.

use super::bad_records::{AvroWriter, WRITER_ID};
use super::material::Records;
use super::setting::{PATIENCE, Setting};
use maskwatch_testing::daemon::http_get;
use maskwatch_testing::kafka_topics::InputRecord;
use maskwatch_testing::poll_until;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GOOD: usize = 200;

/// What the stand-in answers: a status and a body; `None` hangs up.
type Answer = Option<(u16, String)>;

/// Answers the schemas' questions on a loopback port; lives as long as the test process.
fn registry(first: Answer) -> (String, Arc<Mutex<Answer>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new(first));
    let held = Arc::clone(&answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = held.lock().unwrap().clone();
            // A client that has gone needs no answer.
            let _ = tell(&mut stream, answer);
        }
    });
    (url, answer)
}

fn tell(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::from("-");
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let Some((status, body)) = answer else {
        return Ok(());
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[test]
fn whatever_is_no_answer_of_a_registry_holds_the_stream_and_nothing_is_lost() {
    let records = Records::payments(GOOD);
    let setting = Setting::new("registry-away", 1, &records.bundle);
    let writer = AvroWriter {
        rows: &records.rows[0],
    };
    let page = "<html><body>404 page not found</body></html>".to_owned();
    let (url, answer) = registry(Some((404, page)));
    let input = format!("[input]\nformat = \"avro\"\nschema_registry_url = \"{url}\"\n");
    let mut served = setting.start(&input);
    served.wait_until_ready();
    let readyz = served.url("/readyz");
    let inputs: Vec<_> = (0..GOOD)
        .map(|row| {
            InputRecord::of(writer.message(row, WRITER_ID))
                .key(format!("key-{row}"))
                .partition(0)
        })
        .collect();
    setting.broker.produce(&setting.input, &inputs);
    let sessions = |log: &str| log.matches("a new one starts").count();
    let unready_after_more = |served: &mut super::setting::Served, why: &str| {
        let before = sessions(&served.0.log());
        let told = poll_until(PATIENCE, || {
            let unready =
                http_get(&readyz).is_ok_and(|(status, text)| status == 503 && text.contains(why));
            (sessions(&served.0.log()) >= before + 2 && unready).then_some(())
        });
        assert!(told.is_some(), "{why}: {}", served.0.log());
        assert!(served.0.is_running());
    };
    unready_after_more(&mut served, "status 404");
    for (given, why) in [
        (Some((401, "who are you?".to_owned())), "status 401"),
        (Some((503, "down".to_owned())), "status 503"),
        (
            Some((200, "<html>log in</html>".to_owned())),
            "not one of a schema registry",
        ),
        (None, "does not answer"),
    ] {
        *answer.lock().unwrap() = given;
        unready_after_more(&mut served, why);
    }
    assert_eq!(setting.committed(), 0);
    let schema = json!({"schema": writer.schema().to_string()}).to_string();
    *answer.lock().unwrap() = Some((200, schema));
    setting.wait_for(&mut served, GOOD);
    assert_eq!(setting.read(&setting.dead).len(), 0, "dead letters");
    setting.assert_exactly_once(&records);

    // The registry's own word is one: these are dead letters at once.
    *answer.lock().unwrap() = Some((404, "{\"error_code\": 40403}".to_owned()));
    let unknown = InputRecord::of(writer.message(0, WRITER_ID + 1)).partition(0);
    setting.broker.produce(&setting.input, &[unknown]);
    setting.wait_for(&mut served, GOOD + 1);
    assert_eq!(setting.read(&setting.dead).len(), 1);

    // Asked to stop while the registry is away, it leaves in time and as one that was asked to.
    *answer.lock().unwrap() = Some((403, "no".to_owned()));
    let another = InputRecord::of(writer.message(0, WRITER_ID + 2)).partition(0);
    setting.broker.produce(&setting.input, &[another]);
    unready_after_more(&mut served, "status 403");
    served.0.terminate();
    let status = served.0.wait(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{}", served.0.log());
}

/// A registry that knows every id, and takes `delay` to answer; lives as long as the test process.
fn slow_registry(schema: String, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = Some((200, schema.clone()));
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                // A client that has gone needs no answer.
                let _ = tell(&mut stream, answer);
            });
        }
    });
    url
}

/// One after the other the questions take 96 s, and a batch may be in work for 60.
#[test]
fn many_new_schemas_of_a_registry_that_just_answers_in_time_do_not_end_the_stream() {
    const SCHEMAS: usize = 24;
    let records = Records::payments(GOOD);
    let setting = Setting::new("registry-slow", 1, &records.bundle);
    let writer = AvroWriter {
        rows: &records.rows[0],
    };
    let schema = json!({"schema": writer.schema().to_string()}).to_string();
    let url = slow_registry(schema, Duration::from_secs(4));
    let inputs: Vec<_> = (0..GOOD)
        .map(|row| {
            InputRecord::of(writer.message(row, WRITER_ID + (row % SCHEMAS) as u32))
                .key(format!("key-{row}"))
                .partition(0)
        })
        .collect();
    setting.broker.produce(&setting.input, &inputs);
    let input = format!("[input]\nformat = \"avro\"\nschema_registry_url = \"{url}\"\n");
    let mut served = setting.start(&input);
    setting.wait_for(&mut served, GOOD);
    assert_eq!(setting.read(&setting.dead).len(), 0, "dead letters");
    setting.assert_exactly_once(&records);
    served.drain();
}
