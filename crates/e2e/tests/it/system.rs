//! The three services of a world together, however many processes they are.

use testkit::{ServiceBuilder, TestService};

use crate::SHAPE;
use crate::world::{Shape, World, wait_assigned};

/// Running services: ingest, processor, query, or one that is all of them.
pub(crate) struct System(Vec<TestService>);

/// What to start.
pub(crate) struct SystemBuilder<'a> {
    world: &'a World,
    settings: Vec<(&'static str, String)>,
}

impl World {
    /// All three services, not started yet.
    pub(crate) fn system(&self) -> SystemBuilder<'_> {
        SystemBuilder {
            world: self,
            settings: Vec::new(),
        }
    }
}

impl SystemBuilder<'_> {
    /// A setting, for whichever service reads it.
    pub(crate) fn env(mut self, name: &'static str, value: impl ToString) -> Self {
        self.settings.push((name, value.to_string()));
        self
    }

    /// Sends to receivers of the test on this machine, and looks every second for what is to be sent.
    pub(crate) fn with_receivers(self) -> Self {
        self.env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
            .env("PROCESSING_INTERVAL", 1)
    }

    fn with_settings(&self, builder: ServiceBuilder) -> ServiceBuilder {
        let settings = self.settings.iter();
        settings.fold(builder, |builder, (name, value)| builder.env(name, value))
    }

    /// Starts them, and waits until everything sent from now on is worked off.
    pub(crate) async fn start(self) -> System {
        let world = self.world;
        let mut processor = self.with_settings(world.processor()).spawn();
        if SHAPE == Shape::AllInOne {
            processor.wait_ready().await;
            wait_assigned(world, &[&processor]).await;
            return System(vec![processor]);
        }
        let mut ingest = self.with_settings(world.service("ingest")).spawn();
        let mut query = self.with_settings(world.service("query")).spawn();
        processor.wait_ready().await;
        wait_assigned(world, &[&processor]).await;
        ingest.wait_ready().await;
        query.wait_ready().await;
        System(vec![ingest, processor, query])
    }
}

impl System {
    /// Services of the split shape that were started otherwise.
    pub(crate) fn of(ingest: TestService, processor: TestService, query: TestService) -> Self {
        Self(vec![ingest, processor, query])
    }

    fn index(&self, wanted: usize) -> usize {
        wanted.min(self.0.len() - 1)
    }

    /// Takes events.
    pub(crate) fn ingest(&self) -> &TestService {
        &self.0[0]
    }

    /// The same, to be killed and started again.
    pub(crate) fn ingest_mut(&mut self) -> &mut TestService {
        &mut self.0[0]
    }

    /// Stores them and pushes them live.
    pub(crate) fn processor(&self) -> &TestService {
        &self.0[self.index(1)]
    }

    /// The same, to be killed and started again.
    pub(crate) fn processor_mut(&mut self) -> &mut TestService {
        let index = self.index(1);
        &mut self.0[index]
    }

    /// Answers questions and holds the streams.
    pub(crate) fn query(&self) -> &TestService {
        &self.0[self.index(2)]
    }

    /// The same, to be killed and started again.
    pub(crate) fn query_mut(&mut self) -> &mut TestService {
        let index = self.index(2);
        &mut self.0[index]
    }

    /// Where events are sent to.
    pub(crate) fn ingest_url(&self, path: &str) -> String {
        self.ingest().url(path)
    }

    /// Where questions are asked and streams are opened.
    pub(crate) fn query_url(&self, path: &str) -> String {
        self.query().url(path)
    }

    /// Where the processor tells about itself.
    pub(crate) fn processor_url(&self, path: &str) -> String {
        self.processor().url(path)
    }

    /// All of them live, and none has panicked.
    pub(crate) fn assert_well(&mut self) {
        for service in &mut self.0 {
            assert_eq!(service.exited(), None);
            assert!(!service.log().contains("panicked"));
        }
    }
}
