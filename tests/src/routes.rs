//! The routes that an app really has: the app itself is asked, not a list of ours.

use std::cell::RefCell;
use std::rc::Rc;

use actix_web::introspection::{IntrospectionNode, IntrospectionTree};
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpResponse, web};

/// Every route that `configure` mounts, as (method, pattern), sorted.
pub async fn routes_of(configure: impl FnOnce(&mut ServiceConfig)) -> Vec<(String, String)> {
    let found = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&found);
    let tell = move |tree: web::Data<IntrospectionTree>| {
        walk(&tree.root, &mut seen.borrow_mut());
        std::future::ready(HttpResponse::Ok())
    };
    let app = App::new().configure(configure).route("/tell", web::route().to(tell));
    let app = init_service(app).await;
    call_service(&app, TestRequest::get().uri("/tell").to_request()).await;
    let mut routes = found.take();
    routes.sort();
    routes.dedup();
    routes
}

fn walk(node: &IntrospectionNode, found: &mut Vec<(String, String)>) {
    for method in &node.methods {
        found.push((method.to_string(), node.full_path.clone()));
    }
    node.children.iter().for_each(|child| walk(child, found));
}
